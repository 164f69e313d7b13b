"""Read a data set that TensorFlow Datasets (TFDS) prepared as array_record files."""

import math
import mmap
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from train.data.dataset import Examples
from train.data.image_folder import common_shape, decoded
from train.data.sources import how_to_prepare, newest_version
from train.data.tfds_metadata import METADATA, Metadata, read_metadata
from train.errors import DataError, reason

_JPEG = b"\xff\xd8"
_RIEGELI = bytes.fromhex("83af70d10d884a3f")  # An array_record file begins with it.

# Bytes of an image whose size its metadata do not tell.
_LARGEST_FILE = 2**22


class Prepared(NamedTuple):
    """A prepared data set.

    Attributes:
        description: one line about where the data come from.
        train: images, uint8 [N, H, W, C], and labels, int32 [N], to train on.
        test: those to test on; None where there are none.
        classes: the name of each class.
        resized: whether the images have several sizes, so that they may be brought to one.
    """

    description: str
    train: Examples
    test: Examples | None
    classes: tuple[str, ...]
    resized: bool


def read(name: str, folder: Path, size: tuple[int, int] | None = None) -> Prepared:
    """Read the data set `name` from the newest version below `folder`.

    Args:
        name: of the data set.
        folder: that of the data sets.
        size: the height and width that images of several sizes are brought to.

    Raises:
        DataError: the data are missing, incomplete or damaged, or claim to be larger than they
            can be.
        OSError: a file cannot be read.
    """
    version = _find_version(name, folder)
    try:
        about = read_metadata(name, version)
        parts = {split: _read_split(split, about, size, version) for split in about.shards}
    except (DataError, ImportError, MemoryError, OSError):
        raise
    except Exception as error:  # A damaged file surfaces as whatever a library stumbles over.
        raise _damaged(name, version, error) from error
    shapes = {images.shape[1:] for images, _ in parts.values()}
    if len(shapes) > 1:
        raise DataError(
            f"{version}: the images have several sizes; --image-size brings them to one"
        )
    return Prepared(
        about.description, parts["train"], parts.get("test"), about.classes, None in about.shape
    )


def files(name: str, folder: Path) -> list[Path]:
    """Return the files that `read` reads; without those of a split where the folder is damaged.

    Raises:
        DataError: the data are missing.
    """
    version = _find_version(name, folder)
    try:
        shards = read_metadata(name, version).shards
    except (DataError, OSError, ValueError):  # `read` says what is wrong.
        shards = {}
    about = [path for path in map(version.joinpath, METADATA) if path.is_file()]
    return [*about, *(path for parts in shards.values() for path, _ in parts)]


def _damaged(name: str, version: Path, problem: object) -> DataError:
    """Return the error that `version` is incomplete or damaged, in one line."""
    return DataError(
        f"{version} is incomplete or damaged: {reason(problem)}; delete that folder "
        f"and {how_to_prepare(name, version.parent.parent)}"
    )


def _find_version(name: str, folder: Path) -> Path:
    """Return the folder of the newest version of `name`; raise a `DataError` if there is none."""
    version = newest_version(folder / name)
    if version is None:
        problem = f"holds no {name}" if folder.is_dir() else "is not a folder"
        raise DataError(
            f"{folder} {problem}; name another as data_dir or in TFDS_DATA_DIR, or "
            f"{how_to_prepare(name, folder)}"
        )
    return version


def _read_split(
    split: str, about: Metadata, size: tuple[int, int] | None, version: Path
) -> Examples:
    """Return images, uint8 [N, H, W, C], and labels, int32 [N], of one split, checked."""
    # TFDS's own `as_data_source` takes 120 µs for an example of CIFAR-10 (two cores, one of them
    # busy), 7 s for all 60000: 30 µs to unpack it and 90 µs in Pillow's `Image.open`. The records
    # (12 µs) are therefore parsed (14 µs) and decoded (50 µs, in threads) here: 3.4 s for all.
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    # Twice the pixels, for encoders that compress nothing, and some for texts beside them.
    pixels = math.prod(side for side in about.shape if side is not None)
    largest = (2 * pixels if None not in about.shape else _LARGEST_FILE) + 4096
    records = [
        record
        for path, length in about.shards[split]
        for record in _read_shard(path, length, largest)
    ]
    examples = []
    for record in records:
        try:
            feature = tf_example_pb2.Example.FromString(record).features.feature
            (label,) = feature["label"].int64_list.value
            (png,) = feature["image"].bytes_list.value
            (key,) = feature["id"].bytes_list.value if about.with_id else (b"",)
        except (ValueError, DecodeError) as error:
            wanted = "label, image and id" if about.with_id else "label and image"
            raise ValueError(f"an example of {split!r} must have one {wanted}: {error}") from error
        examples.append((key, label, png))
    examples.sort(key=lambda example: example[0])  # Without ids the order stays as it is.
    labels = np.array([label for _, label, _ in examples])
    if labels.min() < 0 or labels.max() >= len(about.classes):
        raise ValueError(
            f"labels of {split!r} go from {labels.min()} to {labels.max()} "
            f"instead of 0 to {len(about.classes) - 1}"
        )
    pngs = [png for _, _, png in examples]
    try:
        images = _decoded(pngs, about.shape, size, version / split)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"in {split!r}, {error}") from error
    return images, labels.astype(np.int32)


def _decoded(
    files: Sequence[bytes],
    shape: tuple[int | None, int | None, int],
    size: tuple[int, int] | None,
    where: Path,
) -> np.ndarray:
    """Return image files as uint8 [N, H, W, C]; Pillow decodes those that are not all such PNGs."""
    height, width, channels = shape
    if height is not None and width is not None:
        if not any(file.startswith(_JPEG) for file in files):
            return decode(files, (height, width, channels))
        size = height, width
    names = [where / f"image {number}" for number in range(len(files))]
    (height, width, _), _ = common_shape(names, size, files)
    return decoded(names, (height, width, channels), files)


def _read_shard(path: Path, expected: int, largest: int) -> list[bytes]:
    """Return the `expected` records of a file, which have at most `largest` bytes on average."""
    from array_record.python.array_record_module import ArrayRecordReader

    if not path.is_file():
        raise ValueError(f"{'Not a file' if path.exists() else 'No such file'}: {path.name}")
    # array_record allocates what a file claims to hold, and hangs where there is no such memory.
    if _claimed_bytes(path) > max(expected, 1) * largest:
        raise ValueError(
            f"{path.name} claims to hold more than {largest} bytes for each of {expected} examples"
        )
    try:
        reader = ArrayRecordReader(str(path))
        count = reader.num_records()
        records = reader.read(list(range(count))) if count == expected else []
        reader.close()
    except Exception as error:  # RuntimeError mostly, but also ValueError of C++'s strings.
        raise ValueError(f"{path.name}: {error}") from error
    if count != expected:
        raise ValueError(f"{path.name} holds {count} examples, dataset_info.json says {expected}")
    return records  # type: ignore[no-any-return]


def _claimed_bytes(path: Path) -> int:
    """Return how many bytes the chunks of a file say that they inflate to.

    An array_record file is a file of Riegeli chunks: a header (hash, size, hash, type, number of
    records, size inflated), and the data. Every 64 KiB a block header of 24 bytes stands between.
    Source: riegeli_records_file_format.md of google/riegeli.
    """
    block, block_header, chunk_header = 2**16, 24, 40
    unpack = struct.Struct("<8xQ8xQQ").unpack_from
    claimed = position = 0
    with path.open("rb") as file:
        if path.stat().st_size < block:
            return 0  # array_record refuses it unread.
        if file.read(8) != _RIEGELI:
            raise ValueError(f"{path.name} is not an array_record file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            while position + chunk_header + block_header <= len(content):
                header = content[position : position + chunk_header + block_header]
                if (rest := -position % block) < chunk_header:
                    header = header[:rest] + header[rest + block_header :]
                size, records, inflated = unpack(header)
                claimed += inflated
                size += chunk_header
                between = (size + (position - block_header - 1) % block) // (block - block_header)
                # A chunk with more records than bytes is padded; `records` has the type below it.
                position = max(position + size + between * block_header, position + (records >> 8))
                if 0 < position % block < block_header:
                    position += block_header - position % block
    return claimed


def decode(pngs: Sequence[bytes], shape: tuple[int, int, int]) -> np.ndarray:
    """Decode PNG files of `shape` [H, W, C] to uint8 [N, H, W, C].

    Raises:
        ValueError: one is damaged, or is not of that shape, 8 bits a colour, not interlaced.
        zlib.error: the pixels of one are damaged.
    """
    from PIL import Image

    height, width, channels = shape
    mode, color_type = {1: ("L", 0), 3: ("RGB", 2)}[channels]
    # The signature, then the header: length, type, width, height, 8 bits, colours, not interlaced.
    header = struct.pack(
        ">8sI4sIIBBBBB", b"\x89PNG\r\n\x1a\n", 13, b"IHDR", width, height, 8, color_type, 0, 0, 0
    )
    size = height * (1 + width * channels)
    chunk_start, checksum = struct.Struct(">I4s").unpack_from, struct.Struct(">I").unpack_from

    def filtered_rows(png: bytes) -> bytes:
        if not png.startswith(header):
            raise ValueError(f"an image is not a PNG of {height}x{width} pixels in mode {mode}")
        compressed = kind = b""
        start = 8
        try:
            while kind != b"IEND":  # The chunks: length, type, data, checksum.
                length, kind = chunk_start(png, start)
                chunk = png[start + 4 : start + 8 + length]
                if checksum(png, start + 8 + length)[0] != zlib.crc32(chunk):
                    raise ValueError(f"the chunk {kind!r} of a PNG does not have its checksum")
                if kind == b"IDAT":
                    compressed += chunk[4:]
                start += 12 + length
        except struct.error as error:
            raise ValueError("a PNG is cut short") from error
        # One byte more than there may be, so that more is noticed and not inflated.
        inflater = zlib.decompressobj()
        rows = inflater.decompress(compressed, size + 1)
        if len(rows) != size or not inflater.eof:
            amount = "more" if len(rows) > size or inflater.unconsumed_tail else "less"
            raise ValueError(f"the pixels of a PNG inflate to {amount} than {size} bytes")
        return rows

    images = np.empty((len(pngs), *shape), np.uint8)

    def decode_batch(start: int) -> None:
        batch = pngs[start : start + 500]
        # One tall image. PNG's filters look at the row above, which for the first row is zero:
        # so a row of zeros parts the images.
        rows = np.zeros((len(batch), 1 + height, 1 + width * channels), np.uint8)
        filtered = np.frombuffer(b"".join(map(filtered_rows, batch)), np.uint8)
        rows[:, 1:] = filtered.reshape(len(batch), height, -1)
        tall_size = (width, len(batch) * (1 + height))
        data = zlib.compress(rows.tobytes(), level=0)
        tall = Image.frombytes(mode, tall_size, data, "zip", mode)  # Refuses an unknown filter.
        images[start : start + 500] = np.asarray(tall).reshape(-1, 1 + height, *shape[1:])[:, 1:]

    with ThreadPoolExecutor() as pool:
        list(pool.map(decode_batch, range(0, len(pngs), 500)))
    return images
