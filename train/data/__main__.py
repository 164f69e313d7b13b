"""Show data sets, and prepare MNIST and CIFAR-10 from their original archives.

    python -m train.data show digits
    python -m train.data prepare mnist --from ~/Downloads
    python -m train.data prepare cifar10 --from ~/Downloads --data-dir ~/datasets

`digits` comes with scikit-learn, `synth` is drawn at random. `mnist` and `cifar10` are read from a
folder that TensorFlow Datasets (TFDS) prepared as array_record files, or that the command `prepare`
wrote; neither TensorFlow nor a network is needed, and nothing is ever downloaded.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro

from train.data import Dataset, load
from train.data.prepare import prepare
from train.flags.options import DataDir
from train.processes.exit_status import answer

_Name = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME", help="The data set.")]


_Archives = Annotated[
    Path, tyro.conf.arg(name="from", metavar="DIR", help="Folder that holds the archives.")
]


class _Show(NamedTuple):
    """Print what is known about a data set: digits, synth, mnist or cifar10.

    python -m train.data show digits
    python -m train.data show mnist
    python -m train.data show cifar10 --data-dir ~/datasets
    """

    name: _Name
    data_dir: DataDir = None


class _Prepare(NamedTuple):
    """Prepare a data set, mnist or cifar10, from its original archives.

    python -m train.data prepare mnist --from ~/Downloads
    python -m train.data prepare cifar10 --from .
    python -m train.data prepare cifar10 --from ~/Downloads --data-dir ~/datasets
    """

    name: _Name
    source: _Archives
    data_dir: DataDir = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns its exit status, see `exit_status.answer`."""

    def work(asked: _Show | _Prepare) -> None:
        if isinstance(asked, _Prepare):
            print(prepare(*asked))
        else:
            _show(load(*asked))

    return answer(
        {"prepare": _Prepare, "show": _Show}, work, arguments, "python -m train.data", __doc__
    )


def _show(dataset: Dataset) -> None:
    print(f"name         {dataset.name}")
    print(f"description  {dataset.description}")
    for split, images in (("train", dataset.x_train), ("test", dataset.x_test)):
        print(f"{split:12} {images.dtype} {list(images.shape)}")
    print(f"fingerprint  {dataset.fingerprint}")
    print(f"\n{'class':12} {'train':>6} {'test':>6}")
    for label, class_name in enumerate(dataset.classes):
        train, test = (dataset.y_train == label).sum(), (dataset.y_test == label).sum()
        print(f"{class_name:12} {train:6} {test:6}")


if __name__ == "__main__":
    sys.exit(main())
