"""The data sets: each is declared here, in one row, with where it comes from."""

import importlib.util
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from train.errors import DataError
from train.flags.declaration import data_path
from train.flags.suggestions import near


class Source(NamedTuple):
    """A data set.

    Attributes:
        reader: what reads it: "digits" and "synth" are made in `dataset`; "tfds" is for a folder
            that TensorFlow Datasets (TFDS) or "python -m train.data prepare" left.
        shape: of an image, [H, W, C].
        white: the value of a white pixel.
        archives: the format of the original files, of those that `prepare` knows.
    """

    reader: Literal["digits", "synth", "tfds"]
    shape: tuple[int, int, int]
    white: int
    archives: Literal["mnist", "cifar10"] | None = None


SOURCES = {
    "digits": Source("digits", (8, 8, 1), 16),
    "synth": Source("synth", (1, 2, 1), 1),
    "mnist": Source("tfds", (28, 28, 1), 255, archives="mnist"),
    "cifar10": Source("tfds", (32, 32, 3), 255, archives="cifar10"),
}

PREPARED = tuple(name for name, source in SOURCES.items() if source.reader == "tfds")


@dataclass(frozen=True)
class Archive:
    """A file that a data set is prepared from.

    Attributes:
        file_name: the name that the file has where it comes from.
        url: the address that it comes from.
        size: its length in bytes.
        sha256: the hexadecimal digest of its bytes.
    """

    file_name: str
    url: str
    size: int
    sha256: str


def may_be_data(name: str) -> bool:
    """Whether a text may name data: a data set, or a path of one's own."""
    if data_path(name) is None:
        return bool(re.fullmatch(r"[a-z][a-z0-9_]*", name))
    return os.path.isabs(name) and "\0" not in name


def names(data_dir: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """The data sets that there are: those declared here, and others that lie in `data_dir`."""
    folder = data_folder(data_dir)
    others = (
        path.name
        for path in (sorted(folder.iterdir()) if folder.is_dir() else ())
        if path.name not in SOURCES and may_be_data(path.name) and newest_version(path)
    )
    return (*SOURCES, *others)


def newest_version(folder: Path) -> Path | None:
    """The folder of the newest version of a prepared data set; None where there is none."""
    versions = [path for path in folder.glob("*") if re.fullmatch(r"\d+(\.\d+)*", path.name)]
    return max(
        versions, key=lambda path: [int(number) for number in path.name.split(".")], default=None
    )


def check_name(name: str, allowed: Sequence[str]) -> None:
    """Raises a `DataError` with the nearest allowed name where `name` is not one of them."""
    if name not in allowed:
        meant = near(name, allowed, cutoff=0.4)
        raise DataError(f"data set {name!r} is not one of {', '.join(allowed)}{meant}")


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """The folder of prepared data sets: `data_dir`, else $TFDS_DATA_DIR, else TFDS's default."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(os.path.expanduser(chosen)).absolute()  # Which leaves ~UNKNOWN as it is.


def archives(name: str) -> tuple[Archive, ...]:
    """The original files of a data set in `PREPARED`, as TFDS registers them.

    They are read from the package's own table without importing it, which keeps the error about
    missing data, where the addresses are named, free of that import.

    Raises:
        DataError: tensorflow-datasets is not installed.
    """
    package = importlib.util.find_spec("tensorflow_datasets")
    if package is None or not package.submodule_search_locations:
        raise DataError(f"{name} needs a package: pip install tensorflow-datasets")
    table = Path(package.submodule_search_locations[0], "url_checksums", f"{name}.txt")
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    return tuple(Archive(row[3], row[0], int(row[1]), row[2]) for row in rows)


def how_to_prepare(name: str, folder: Path) -> str:
    """The half sentence that tells how to get the data set `name` into `folder`."""
    if name not in PREPARED:
        return (
            f"prepare it with TensorFlow Datasets: tfds.builder({name!r}, data_dir="
            f"{str(folder)!r}, file_format='array_record').download_and_prepare()"
        )
    originals = archives(name)
    file_names = ", ".join(archive.file_name for archive in originals)
    address = originals[0].url.rpartition("/")[0]
    return (
        f"put {file_names} from {address}/ into a folder DIR and run: "
        f"python -m train.data prepare {name} --from DIR --data-dir {shlex.quote(str(folder))}"
    )
