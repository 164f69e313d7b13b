"""Show data sets, and prepare MNIST and CIFAR-10 from their original archives.

    python -m train.data show digits
    python -m train.data prepare mnist --from ~/Downloads
    python -m train.data prepare cifar10 --from ~/Downloads --data-dir ~/datasets

`digits` comes with scikit-learn, `synth` is drawn at random. `mnist` and `cifar10` are read from a
folder that TensorFlow Datasets (TFDS) prepared as array_record files, or that the command `prepare`
wrote; neither TensorFlow nor a network is needed, and nothing is ever downloaded. Data of one's own
are named by their path: a .npz, .csv or .parquet file, or a folder of images.
"""

import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro

from train.data import Dataset, load
from train.data.prepare import prepare
from train.flags import config
from train.flags.constraints import check_value
from train.flags.options import DataDir
from train.processes.exit_status import answer

_Name = Annotated[
    tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME", help="Data set, or path.")
]


_Archives = Annotated[
    Path, tyro.conf.arg(name="from", metavar="DIR", help="Folder that holds the archives.")
]


_Label = Annotated[config.Label, tyro.conf.arg(help="Column of the labels, of a table.")]
_Missing = Annotated[config.Missing, tyro.conf.arg(help="Fill missing values of a table.")]
_Test = Annotated[
    config.Test, tyro.conf.arg(help="Share or number of examples that are held out to test on.")
]
_ImageSize = Annotated[
    config.ImageSize, tyro.conf.arg(help="Size that images are brought to: HxW.")
]


class _Show(NamedTuple):
    """Print what is known about a data set, or about data of one's own.

    python -m train.data show digits
    python -m train.data show cifar10 --data-dir ~/datasets
    python -m train.data show table.csv --label species
    """

    name: _Name
    data_dir: DataDir = None
    label: _Label = None
    missing: _Missing = None
    test: _Test = None
    image_size: _ImageSize = None


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
            for name, value in asked._asdict().items():
                check_value(name, value)
            name, data_dir, label, missing, test, size = asked
            _show(load(name, data_dir, label=label, missing=missing, test=test, image_size=size))

    return answer(
        {"prepare": _Prepare, "show": _Show}, work, arguments, "python -m train.data", __doc__
    )


def _show(dataset: Dataset) -> None:
    print(f"name         {dataset.name}")
    about = f"description  {dataset.description}"
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        about = textwrap.fill(about, width, subsequent_indent=" " * 13, break_on_hyphens=False)
    print(about)
    for split, images in (("train", dataset.x_train), ("test", dataset.x_test)):
        print(f"{split:12} {images.dtype} {list(images.shape)}")
    print(f"fingerprint  {dataset.fingerprint}")
    for number, column in enumerate(dataset.schema.columns):
        words = f" (one of {', '.join(column.words)})" if column.words else ""
        print(f"{'' if number else 'columns':12} {column.name}{words}")
    print(f"\n{'class':12} {'train':>6} {'test':>6}")
    for label, class_name in enumerate(dataset.classes):
        train, test = (dataset.y_train == label).sum(), (dataset.y_test == label).sum()
        print(f"{class_name:12} {train:6} {test:6}")


if __name__ == "__main__":
    sys.exit(main())
