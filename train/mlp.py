"""Train a multilayer perceptron on images or a table.

python -m train.mlp
python -m train.mlp --dataset mnist --hidden 500-100 --optimizer momentum
python -m train.mlp --learning-rate 0.001 0.01 --seeds 3 --out runs/rates
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from train.flags.config import MlpRun
from train.flags.declaration import hidden_widths
from train.training.command import command

if TYPE_CHECKING:
    from jaxnets.layers import Layer
    from train.engine.hyperparameters import Hyper


def network(run: MlpRun, hyper: "Hyper", classes: int) -> "Layer":
    """Return the network that the flags describe."""
    from jaxnets import initializers, nets  # Slow, and not needed to refuse a flag.

    mlp = run.network
    return nets.mlp(
        [*hidden_widths(mlp.hidden), classes],
        activation=mlp.activation,
        norm=None if mlp.norm == "none" else mlp.norm,
        dropout=0.0 if hyper.dropout is None else hyper.dropout,
        initializer=initializers.named(mlp.initializer, mlp.initial_std),
        negative_slope=0.01 if hyper.negative_slope is None else hyper.negative_slope,
        alpha=1.0 if hyper.alpha is None else hyper.alpha,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return command(MlpRun, network, "mlp", arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main())
