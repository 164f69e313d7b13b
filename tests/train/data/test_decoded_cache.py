"""Decoded data are kept: the same as decoded anew, whatever becomes of the file."""

import dataclasses
import importlib.metadata
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from train import data
from train.data import dataset, decoded_cache, tfds_reader

REPOSITORY = Path(__file__).parents[3]


class Decoder:
    """Counts how often it decodes; what it makes is as random bytes are."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        rng = np.random.default_rng(0)
        parts = [
            (rng.integers(256, size=(n, 4, 3, 1), dtype=np.uint8), np.arange(n, dtype=np.int32) % 2)
            for n in (20, 5)
        ]
        return dataset.sealed("small", "Ünlike any other.", *parts, ("cat", "dog"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "jaxnets" / "decoded"


@pytest.fixture
def records(tmp_path):
    path = tmp_path / "records"
    path.write_bytes(b"some records")
    return path


def assert_same(one, other):
    for field in dataclasses.fields(one):
        a, b = (getattr(of, field.name) for of in (one, other))
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            assert not b.flags.writeable
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b, field.name


def load(decoder, *files, options=(None, 0.2)):
    found = decoded_cache.kept(decoder, "small", files, options)
    assert_same(Decoder()(), found)
    return decoder.calls


def test_data_are_decoded_once(cache, records):
    decoder = Decoder()
    assert [load(decoder, records) for _ in range(3)] == [1, 1, 1]
    (path,) = cache.iterdir()
    assert path.suffix == ".npz"
    assert path.stat().st_mode & 0o077 == 0


def test_whatever_determines_the_result_is_in_the_key(cache, records, monkeypatch):
    decoder = Decoder()
    load(decoder, records)
    assert load(decoder, records, options=((8, 8), 0.2)) == 2
    assert load(decoder, records, options=(None, 0.3)) == 3
    assert load(decoder) == 4
    records.write_bytes(b"other records")
    assert load(decoder, records) == 5
    version = importlib.metadata.version
    for number, package in enumerate(("numpy", "pillow", "scikit-learn"), 6):
        monkeypatch.setattr(
            importlib.metadata,
            "version",
            lambda name, package=package: version(name) + ".1" * (name == package),
        )
        assert load(decoder, records) == number
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(decoded_cache, "_FORMAT", 2)
    assert load(decoder, records) == 9
    monkeypatch.undo()


def test_the_order_in_which_things_are_named_does_not_matter(cache, records, tmp_path):
    other, decoder = tmp_path / "others", Decoder()
    other.write_bytes(b"other records")
    assert load(decoder, records, other, options={"a": 1, "b": 2}) == 1
    assert load(decoder, other, records, options={"b": 2, "a": 1}) == 1
    other.rename(tmp_path / "moved")
    assert load(decoder, records, tmp_path / "moved", options={"a": 1, "b": 2}) == 2


def test_a_package_that_is_missing_may_not_be_needed(cache, records, monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    decoder = Decoder()
    assert [load(decoder, records) for _ in range(2)] == [1, 1]


def test_any_byte_that_changes_is_noticed(cache):
    """Or is one that says nothing, such as the date of a file in the archive."""
    decoder = Decoder()
    load(decoder)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        load(decoder)
    assert decoder.calls > 50


DAMAGES = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[:-1],
    "half": lambda content: content[: len(content) // 2],
    "noise": lambda content: bytes(range(256)) * 9,
    "an array": lambda content: b"\x93NUMPY" + content[6:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_decoded_anew_and_silently(cache, capfd, damage):
    decoder = Decoder()
    load(decoder)
    (path,) = cache.iterdir()
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert [load(decoder) for _ in range(2)] == [2, 2]
    assert capfd.readouterr() == ("", "")


class Planted:
    ran = False

    def __reduce__(self):
        return _plant, ()


def _plant():
    Planted.ran = True


def kept(cache, decoder):
    """Decode for the first time; return the file that is kept, and its arrays."""
    load(decoder)
    (path,) = cache.iterdir()
    with np.load(path) as stored:
        return path, dict(stored)


def test_nothing_in_a_file_is_executed(cache):
    decoder = Decoder()
    path, arrays = kept(cache, decoder)
    for name in arrays:
        np.savez(path, **{**arrays, name: np.array([Planted()], object)})
        load(decoder)
    assert decoder.calls == 1 + len(arrays)
    assert not Planted.ran


def test_another_whole_array_is_not_the_one_that_was_kept(cache):
    decoder = Decoder()
    path, arrays = kept(cache, decoder)
    np.savez(path, **{**arrays, "y_test": 1 - arrays["y_test"]})
    assert load(decoder) == 2
    np.savez(path, **{**arrays, "about": arrays["about"][::-1]})
    assert load(decoder) == 3


def test_on_a_full_disk_all_is_as_well(cache, capfd):
    """A file may not grow beyond a kilobyte here, which fails as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    decoder = Decoder()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        load(decoder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(cache.iterdir())
    assert load(decoder) == 2
    assert [load(decoder) for _ in range(2)] == [2, 2]
    assert capfd.readouterr() == ("", "")


def test_where_nothing_can_be_written_all_is_as_well(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    decoder = Decoder()
    assert [load(decoder) for _ in range(2)] == [1, 2]


def test_a_signal_leaves_nothing_unfinished(cache, monkeypatch):
    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(Decoder())
    assert not list(cache.iterdir())


def test_what_a_killed_process_left_is_removed(cache):
    load(Decoder())
    for name, age in (("old.partial", 7200), ("new.partial", 60)):
        path = cache / name
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    load(Decoder(), options=())
    assert {path.name for path in cache.glob("*.partial")} == {"new.partial"}


def test_what_is_no_file_is_not_waited_for(cache, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    decoder = Decoder()
    assert load(decoder, tmp_path / "pipe") == 1
    assert load(decoder, tmp_path / "absent") == 2
    assert not list(cache.iterdir())


def test_digits_are_kept_with_the_same_split(cache, monkeypatch):
    decoded = data.load("digits")
    assert_same(dataset.load_digits(), decoded)
    monkeypatch.setattr(dataset, "load_digits", None)
    assert_same(decoded, data.load("digits"))


@pytest.mark.slow
def test_digits_that_are_kept_need_no_scikit_learn(cache):
    program = "import sys; from train.data import load; load('digits'); print(*sys.modules)"
    for kept in (False, True):
        process = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
        )
        imported = process.stdout.split()
        assert ("sklearn" in imported) is not kept
        assert ("pandas" in imported and kept) is False


def test_prepared_data_are_kept_by_the_content_of_their_files(cache, tmp_path, monkeypatch):
    folder = tmp_path / "small" / "1.0.0"
    folder.mkdir(parents=True)
    shard = folder / "small-train.array_record-00000-of-00001"
    for path in (folder / "dataset_info.json", folder / "features.json", shard):
        path.write_text(path.name)
    about = tfds_reader.Metadata("", ("a", "b"), False, (2, 2, 1), {"train": [(shard, 10)]})
    monkeypatch.setattr(tfds_reader, "read_metadata", lambda *_: about)
    read = []

    def prepared(name, folder, size):
        read.append(size)
        examples = np.zeros((10, 2, 2, 1), np.uint8), np.arange(10, dtype=np.int32) % 2
        return tfds_reader.Prepared("", examples, None, ("a", "b"), False)

    monkeypatch.setattr(tfds_reader, "read", prepared)

    def load(**options):
        data.load("small", tmp_path, **options)
        return len(read)

    assert [load(), load(), load(image_size="2"), load(image_size="2"), load(test=4)] == [
        1, 1, 2, 2, 3,
    ]  # fmt: skip
    count = 3
    for path in folder.iterdir():
        path.write_text("changed")
        assert load() == (count := count + 1)
    (folder / "label.labels.txt").write_text("a\nb")
    assert [load(), load()] == [count + 1] * 2
