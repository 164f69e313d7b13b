"""Train a convolutional network on images.

python -m train.convnet
python -m train.convnet --dataset cifar10 --architecture preact --epochs 20
python -m train.convnet --resume runs/a
"""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from train.flags.config import ConvnetRun
from train.training.command import command

if TYPE_CHECKING:
    from jaxnets.layers import Layer
    from train.engine.hyperparameters import Hyper


def network(run: ConvnetRun, hyper: "Hyper", classes: int) -> "Layer":
    """Return the network that the flags describe."""
    from jaxnets import initializers, nets  # Slow, and not needed to refuse a flag.

    convnet = run.network
    architectures: dict[str, Callable[..., Layer]] = {
        "small": nets.small_convnet,
        "convnet": nets.convnet,
        "preact": nets.preact_convnet,
    }
    return architectures[convnet.architecture](
        classes=classes,
        activation=convnet.activation,
        initializer=initializers.named(convnet.initializer, convnet.initial_std),
        negative_slope=0.01 if hyper.negative_slope is None else hyper.negative_slope,
        alpha=1.0 if hyper.alpha is None else hyper.alpha,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return command(ConvnetRun, network, "convnet", arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main())
