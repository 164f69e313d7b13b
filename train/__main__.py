"""Train networks on images, and see what they learned.

python -m train.mlp
python -m train.convnet --dataset cifar10 --epochs 5
python -m train.evaluate runs/a
"""

import sys
from collections.abc import Sequence

from train.processes.exit_status import answer
from train.processes.launch import described, run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """List the commands, or run the one that is named; return the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    status = run_command(words)
    if status is not None:
        return status
    return answer(described(), lambda _: None, words or ["--help"], "python -m train", __doc__)


if __name__ == "__main__":
    sys.exit(main())
