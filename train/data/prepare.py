"""Prepares MNIST and CIFAR-10 from their original archives, without TensorFlow.

TensorFlow Datasets (TFDS) writes array_record files without TensorFlow, but unpacks these archives
and encodes their images through it. So its own builders are subclassed here: name, version,
features, keys, and with the keys the order of the examples are theirs; the archives are unpacked
by the standard library, and Pillow encodes the images.
"""

import contextlib
import gzip
import hashlib
import io
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from train.data import sources
from train.data.sources import PREPARED, SOURCES, check_name, data_folder
from train.errors import DataError

Splits = dict[str, tuple[np.ndarray, np.ndarray]]


def prepare(
    name: str, source: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None = None
) -> Path:
    """Writes the TFDS data set `name`, as array_record files, from its original archives.

    Everything that was asked for is checked before anything is written, and the data set appears
    under its name only when it is whole.

    Args:
        name: one of `sources.PREPARED`.
        source: the folder that holds the archives.
        data_dir: the folder of data sets to write to, created where missing; by default
            $TFDS_DATA_DIR, or ~/tensorflow_datasets.

    Returns:
        The folder written: `data_dir`/name/version.

    Raises:
        DataError: the name is unknown, an archive is missing or not the registered one, or the
            data set is there already.
        OSError: the folder cannot be written.
    """
    check_name(name, PREPARED)
    paths = _find_archives(name, Path(os.path.expanduser(source)))
    folder = data_folder(data_dir)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is not a folder; name a folder to write data sets to")

    import tensorflow_datasets as tfds

    official = tfds.builder_cls(name)
    target = folder / name / str(official.VERSION)
    if os.path.lexists(target):
        raise DataError(f"{target} exists; delete that folder to prepare {name} anew")
    if target.parent.is_symlink() or (target.parent.exists() and not target.parent.is_dir()):
        raise DataError(f"{target.parent} is not a folder, or a link to one; move it away")
    _check_archives(name, paths)

    splits, classes = _read_archives(name, paths)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as temporary:
        written = _write(official, splits, classes, Path(temporary))
        target.parent.mkdir(exist_ok=True)
        written.rename(target)
    return target


def _find_archives(name: str, source: Path) -> dict[str, Path]:
    """The path of each archive by its file name; raises a `DataError` if one is not there."""
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; name the folder that holds the archives")
    paths = {archive.file_name: source / archive.file_name for archive in sources.archives(name)}
    for archive in sources.archives(name):
        if not paths[archive.file_name].is_file():
            raise DataError(f"{source} holds no {archive.file_name}; get it from {archive.url}")
    return paths


def _check_archives(name: str, paths: dict[str, Path]) -> None:
    """Raises a `DataError` unless the archives have the registered sizes and digests."""
    for archive in sources.archives(name):
        path = paths[archive.file_name]
        size = path.stat().st_size
        if size != archive.size:
            raise DataError(
                f"{path} has {size} bytes instead of {archive.size}, so it is cut short or "
                f"another file; get it anew from {archive.url}"
            )
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 != archive.sha256:
            raise DataError(
                f"{path} has sha256 {sha256} instead of {archive.sha256}, so it is damaged or "
                f"another file; get it anew from {archive.url}"
            )


def _read_archives(name: str, paths: dict[str, Path]) -> tuple[Splits, list[str] | None]:
    """The images and labels of each split, and the names of the classes where TFDS has none."""
    return _read_cifar10(paths) if SOURCES[name].archives == "cifar10" else _read_mnist(paths)


def _read_mnist(paths: dict[str, Path]) -> tuple[Splits, None]:
    """Images uint8 [N, H, W, 1] and labels uint8 [N] of each split; TFDS names the classes."""
    prefixes = {"train": "train", "test": "t10k"}
    splits = {
        split: (
            _read_idx(paths[f"{prefix}-images-idx3-ubyte.gz"])[..., None],
            _read_idx(paths[f"{prefix}-labels-idx1-ubyte.gz"]),
        )
        for split, prefix in prefixes.items()
    }
    return splits, None


def _read_idx(path: Path) -> np.ndarray:
    """The array in a gzipped idx file: the bytes 0, 0, type, rank, then shape, then data."""
    data = gzip.decompress(path.read_bytes())
    rank = data[3]
    shape = np.frombuffer(data, ">u4", count=rank, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _read_cifar10(paths: dict[str, Path]) -> tuple[Splits, list[str]]:
    """Images uint8 [N, 32, 32, 3] and labels uint8 [N] of each split, and the class names."""
    (path,) = paths.values()
    # In the order of the archive: to go back in a compressed stream is to unpack it again.
    contents = {}
    with tarfile.open(path) as tar:
        for member in tar:
            if (file := tar.extractfile(member)) is not None:  # None for the folder itself.
                contents[Path(member.name).name] = file.read()
    batches = {"train": [f"data_batch_{k}.bin" for k in range(1, 6)], "test": ["test_batch.bin"]}
    splits = {}
    for split, names in batches.items():
        # A record is the label, then the image plane by plane: [3, 32, 32].
        records = np.frombuffer(b"".join(contents[name] for name in names), np.uint8)
        records = records.reshape(-1, 1 + 3 * 32 * 32)
        images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        splits[split] = (images, records[:, 0])
    classes = contents["batches.meta.txt"].decode().splitlines()
    return splits, [name for name in classes if name]


def _write(official: Any, splits: Splits, classes: list[str] | None, folder: Path) -> Path:
    """Lets the TFDS builder class `official` write `splits` below `folder`; returns its folder."""
    import tensorflow_datasets as tfds

    class Builder(official, skip_registration=True):  # type: ignore[call-arg]
        name = official.name

        def _split_generators(
            self, dl_manager: object
        ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
            if classes:
                self.info.features["label"].names = classes
            with_id = "id" in self.info.features
            return {split: _examples(split, *arrays, with_id) for split, arrays in splits.items()}

    builder = Builder(data_dir=folder)
    tfds.disable_progress_bar()
    # TFDS announces a download on standard output, though there is none.
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )
    return Path(builder.data_dir)


def _examples(
    split: str, images: np.ndarray, labels: np.ndarray, with_id: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields key and example: the key is TFDS's, the position, which it hashes into its order."""
    from PIL import Image
    from tqdm import tqdm

    pairs = tqdm(zip(images, labels, strict=True), split, len(images), file=sys.stderr)
    for position, (image, label) in enumerate(pairs):
        # Pillow wants a grey image without its channel axis.
        pixels = np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image)
        example: dict[str, Any] = {"image": Image.fromarray(pixels), "label": int(label)}
        if with_id:
            example["id"] = f"{split}_{position:05d}"
        yield position, example
