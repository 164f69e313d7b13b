"""Read a data set that TensorFlow Datasets (TFDS) prepared as array_record files."""

import math
import mmap
import re
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from train.data.sources import SOURCES, how_to_prepare
from train.data.tfds_metadata import Metadata, read_metadata
from train.errors import DataError, reason

Examples = tuple[np.ndarray, np.ndarray]  # Images and labels.

_RIEGELI = bytes.fromhex("83af70d10d884a3f")  # An array_record file begins with it.


def read(name: str, folder: Path) -> tuple[str, Examples, Examples, tuple[str, ...]]:
    """Read the data set `name` from the newest version below `folder`.

    Returns:
        Its description, the examples to train on, those to test on, and the names of the classes;
        images are uint8 [N, H, W, C], labels int32 [N].

    Raises:
        DataError: the data are missing, incomplete or damaged, or claim to be larger than they
            can be.
        OSError: a file cannot be read.
    """
    version = _find_version(name, folder)
    try:
        about = read_metadata(name, version)
        train = _read_split("train", about, SOURCES[name].shape)
        test = _read_split("test", about, SOURCES[name].shape)
    except (DataError, ImportError, MemoryError, OSError):
        raise
    except Exception as error:  # A damaged file surfaces as whatever a library stumbles over.
        raise _damaged(name, version, error) from error
    return about.description, train, test, about.classes


def _damaged(name: str, version: Path, problem: object) -> DataError:
    """Return the error that `version` is incomplete or damaged, in one line."""
    return DataError(
        f"{version} is incomplete or damaged: {reason(problem)}; delete that folder "
        f"and {how_to_prepare(name, version.parent.parent)}"
    )


def _find_version(name: str, folder: Path) -> Path:
    """Return the folder of the newest version of `name`; raise a `DataError` if there is none."""
    versions = [
        path for path in folder.glob(f"{name}/*") if re.fullmatch(r"\d+(\.\d+)*", path.name)
    ]
    if not versions:
        problem = f"holds no {name}" if folder.is_dir() else "is not a folder"
        raise DataError(
            f"{folder} {problem}; name another as data_dir or in TFDS_DATA_DIR, or "
            f"{how_to_prepare(name, folder)}"
        )
    return max(versions, key=lambda path: [int(number) for number in path.name.split(".")])


def _read_split(split: str, about: Metadata, shape: tuple[int, int, int]) -> Examples:
    """Return images, uint8 [N, H, W, C], and labels, int32 [N], of one split, checked."""
    # TFDS's own `as_data_source` takes 120 µs for an example of CIFAR-10 (two cores, one of them
    # busy), 7 s for all 60000: 30 µs to unpack it and 90 µs in Pillow's `Image.open`. The records
    # (12 µs) are therefore parsed (14 µs) and decoded (50 µs, in threads) here: 3.4 s for all.
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    # Twice the pixels, for encoders that compress nothing, and some for texts beside them.
    largest = 2 * math.prod(shape) + 4096
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
    try:
        images = decode([png for _, _, png in examples], shape)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"in {split!r}, {error}") from error
    return images, labels.astype(np.int32)


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
