"""Tests of data sets, on archives of a few images and on the real data."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from train import mlp
from train.data import Dataset, load, sources, tfds_reader
from train.data import prepare as prepare_module
from train.data.__main__ import main
from train.data.prepare import prepare
from train.data.sources import Archive, archives
from train.data.tfds_reader import decode
from train.errors import ConfigError, DataError

REPOSITORY = Path(__file__).parents[3]
REGISTERED = {name: archives(name) for name in ("mnist", "cifar10")}
CIFAR10_CLASSES = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

needs_real_data = pytest.mark.skipif(
    "TFDS_DATA_DIR" not in os.environ,
    reason="reads the real data: set TFDS_DATA_DIR to a folder with mnist and cifar10 to run it",
)

Examples = tuple[np.ndarray, np.ndarray]


def random_examples(seed: int, number: int, shape: tuple[int, ...]) -> Examples:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, number).astype(np.uint8)
    labels[:2] = 0, 9
    return random.integers(0, 256, (number, *shape)).astype(np.uint8), labels


MNIST = {"train": random_examples(0, 30, (28, 28)), "test": random_examples(1, 10, (28, 28))}
CIFAR10 = {
    "train": random_examples(2, 50, (3, 32, 32)),
    "test": random_examples(3, 10, (3, 32, 32)),
}


def write_originals(folder: Path) -> None:
    """Writes MNIST and CIFAR10 in the formats of the original archives."""
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = MNIST[split]
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            path = folder / f"{prefix}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(header + array.tobytes()))

    def records(images: np.ndarray, labels: np.ndarray) -> bytes:
        return b"".join(
            bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True)
        )

    images, labels = CIFAR10["train"]
    files = {"batches.meta.txt": "\n".join(CIFAR10_CLASSES).encode() + b"\n\n"}
    for k in (5, 4, 3, 2, 1):  # Stored in another order than they are read in.
        batch = slice(10 * (k - 1), 10 * k)
        files[f"data_batch_{k}.bin"] = records(images[batch], labels[batch])
    files["test_batch.bin"] = records(*CIFAR10["test"])
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as tar:
        directory = tarfile.TarInfo("cifar-10-batches-bin")
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@contextlib.contextmanager
def registering(folder: Path) -> Iterator[None]:
    """Registers the sizes and digests of the archives in `folder` as the right ones."""

    def measured(archive: Archive) -> Archive:
        content = (folder / archive.file_name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        return Archive(archive.file_name, archive.url, len(content), digest)

    table = {name: tuple(measured(archive) for archive in REGISTERED[name]) for name in REGISTERED}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "archives", table.__getitem__)
        yield


@pytest.fixture
def originals(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "originals"
    folder.mkdir()
    write_originals(folder)
    with registering(folder):
        yield folder


@pytest.fixture(scope="module")
def prepared_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    write_originals(folder)
    with registering(folder):
        for name in REGISTERED:
            prepare(name, folder, folder / "prepared")
    return folder / "prepared"


@pytest.fixture
def prepared(prepared_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(prepared_once, tmp_path / "prepared")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    return subprocess.run(command, capture_output=True, text=True, env=variables, cwd=REPOSITORY)


def one_line(error: pytest.ExceptionInfo[DataError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# What is stored, and what comes back.


def in_tfds_order(split: str, examples: Examples) -> Examples:
    """The order that TFDS stores examples in: by the hash of their position."""
    from tensorflow_datasets.core.hashing import Hasher

    images, labels = examples
    order = sorted(range(len(labels)), key=Hasher(split).hash_key)
    return images[order], labels[order]


def assert_holds(dataset: Dataset, train: Examples, test: Examples) -> None:
    np.testing.assert_array_equal(dataset.x_train, train[0])
    np.testing.assert_array_equal(dataset.y_train, train[1])
    np.testing.assert_array_equal(dataset.x_test, test[0])
    np.testing.assert_array_equal(dataset.y_test, test[1])
    assert dataset.x_train.dtype == dataset.x_test.dtype == np.uint8
    assert dataset.y_train.dtype == dataset.y_test.dtype == np.int32


def test_mnist_round_trip(originals: Path, tmp_path: Path) -> None:
    assert prepare("mnist", originals, tmp_path / "data") == tmp_path / "data/mnist/3.0.1"
    splits = {split: in_tfds_order(split, MNIST[split]) for split in MNIST}
    (train, y_train), (test, y_test) = splits["train"], splits["test"]
    dataset = load("mnist", tmp_path / "data")
    assert_holds(dataset, (train[..., None], y_train), (test[..., None], y_test))
    assert dataset.classes == tuple("0123456789")
    assert dataset.description == "The MNIST database of handwritten digits."


def test_cifar10_round_trip_keeps_the_original_order(originals: Path, tmp_path: Path) -> None:
    assert prepare("cifar10", originals, tmp_path) == tmp_path / "cifar10/3.0.2"
    dataset = load("cifar10", tmp_path)
    train, test = ((i.transpose(0, 2, 3, 1), labels) for i, labels in CIFAR10.values())
    assert_holds(dataset, train, test)
    assert dataset.classes == tuple(CIFAR10_CLASSES)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_tfds_reads_what_was_prepared(name: str, prepared: Path, tmp_path: Path) -> None:
    import tensorflow_datasets as tfds

    source = tfds.data_source(name, data_dir=prepared, download=False)
    dataset = load(name, prepared)
    for split in ("train", "test"):
        examples = list(source[split])
        if name == "cifar10":
            examples.sort(key=lambda example: example["id"])
            assert examples[7]["id"] == f"{split}_00007".encode()
        images = [example["image"] for example in examples]
        labels = [example["label"] for example in examples]
        np.testing.assert_array_equal(getattr(dataset, f"x_{split}"), images)
        np.testing.assert_array_equal(getattr(dataset, f"y_{split}"), labels)

    official = tfds.builder_cls(name)(data_dir=tmp_path / "empty").info
    stored = tfds.builder_from_directory(prepared / name / str(official.version)).info
    assert repr(stored.features) == repr(official.features)
    assert stored.supervised_keys == official.supervised_keys
    assert stored.description == official.description


def test_nothing_needs_tensorflow_and_the_terminal_stays_quiet(prepared: Path) -> None:
    program = (
        "import sys, train.data; train.data.load('mnist', sys.argv[1]);"
        "print('tensorflow' in sys.modules)"
    )
    result = run("-c", program, str(prepared))
    assert (result.stdout, result.stderr) == ("False\n", "")


def test_digits() -> None:
    dataset = load("digits")
    assert dataset.x_train.shape == (1437, 8, 8, 1)
    assert dataset.x_test.shape == (360, 8, 8, 1)
    assert dataset.x_train.dtype == np.uint8
    assert dataset.x_train.max() == 16
    assert dataset.y_train.dtype == np.int32
    assert dataset.y_train.shape == (1437,)
    shares = np.bincount(dataset.y_test) / np.bincount(dataset.y_train)
    np.testing.assert_allclose(shares, 360 / 1437, rtol=0.03)
    # The split is the same on every machine, or the runs on it could not be compared.
    assert dataset.fingerprint == "520dd7cfa24c318b95ed7d9f9e85b47b6277b5eb393538566a06a3e2052cafa8"


def test_arrays_are_sealed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        load("digits").x_train[0] = 0


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("channels", [1, 3])
def test_decoding_agrees_with_pillow(channels: int) -> None:
    """Noise and slopes, for which Pillow picks different filters; more images than one batch."""
    shape = (9, 7, channels)
    noise = np.random.default_rng(0).integers(0, 256, (300, *shape))
    slopes = np.add.outer(np.arange(300), 5 * np.arange(9 * 7 * channels)).reshape(-1, *shape)
    images = np.concatenate([noise, slopes]).astype(np.uint8)
    pngs = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if channels == 1 else image).save(file, "png")
        pngs.append(file.getvalue())
    np.testing.assert_array_equal(decode(pngs, shape), images)


def test_decoding_of_png_files_that_pillow_would_not_write() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3)).astype(np.uint8)
    header = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 7, 9, 8, 2, 0, 0, 0))
    pngs = []
    for image in images:
        # The first row is filtered by the row above it, which does not exist and counts as zero.
        rows = [bytes([2 if y == 0 else 0]) + row.tobytes() for y, row in enumerate(image)]
        data = zlib.compress(b"".join(rows))
        # The compressed pixels come in several chunks, after one of another kind.
        chunks = [chunk(b"tIME", bytes(7)), chunk(b"IDAT", data[:5]), chunk(b"IDAT", data[5:])]
        pngs.append(header + b"".join(chunks) + chunk(b"IEND", b""))
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(pngs[-1]))), image)
    np.testing.assert_array_equal(decode(pngs, (9, 7, 3)), images)


# Requests that cannot be met.


def test_importing_is_cheap() -> None:
    program = (
        "import sys, train.data; print({'jax', 'sklearn', 'tensorflow_datasets'} & {*sys.modules})"
    )
    assert run("-c", program).stdout == "set()\n"


def test_unknown_name() -> None:
    with pytest.raises(DataError) as error:
        load("cifar-10")
    assert one_line(error) == (
        "data set 'cifar-10' is not one of digits, synth, mnist, cifar10; did you mean cifar10?"
    )


@pytest.mark.slow
@pytest.mark.parametrize("present", [".", "data", "data/cifar10", "data/cifar10/3.0.2"])
def test_missing_data_is_said_at_once(present: str, tmp_path: Path) -> None:
    """The message names the folder, the archive and the command, and costs no import of TFDS."""
    (tmp_path / present).mkdir(parents=True, exist_ok=True)
    program = (
        "import sys, train.data, train.errors\n"
        "try: train.data.load('cifar10', sys.argv[1])\n"
        "except train.errors.DataError as error: print(error)\n"
        "print('tensorflow_datasets' in sys.modules)"
    )
    message, imported = run("-c", program, str(tmp_path / "data")).stdout.splitlines()
    assert message.startswith(str(tmp_path / "data"))
    assert "cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/" in message
    assert message.endswith(
        f"python -m train.data prepare cifar10 --from DIR --data-dir {tmp_path / 'data'}"
    )
    assert imported == "False"


def test_without_a_network_the_answer_comes_at_once(tmp_path: Path) -> None:
    """No connection is tried, so none can hang; and it takes less than 2 s of processor time."""
    program = (
        "import socket, sys\n"
        "def refused(*arguments, **options): raise AssertionError('a connection')\n"
        "socket.socket.connect = socket.getaddrinfo = refused\n"
        "from train.mlp import main\n"
        "sys.exit(main(['--dataset', 'mnist', '--out', sys.argv[1]]))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("-c", program, str(tmp_path / "run"), TFDS_DATA_DIR=str(tmp_path / "none"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'none'} is not a folder; name another as")
    assert done.stderr.count("\n") == 1
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert not (tmp_path / "run").exists()


def test_the_folder_comes_from_argument_then_environment_then_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked_in(data_dir: Path | None = None) -> str:
        with pytest.raises(DataError) as error:
            load("mnist", data_dir)
        return one_line(error).split()[0]

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "environment"))
    assert looked_in(tmp_path / "argument") == str(tmp_path / "argument")
    assert looked_in() == str(tmp_path / "environment")
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert looked_in() == str(tmp_path / "tensorflow_datasets")


def test_a_tilde_is_the_home_folder(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(prepared.parent))
    monkeypatch.setenv("TFDS_DATA_DIR", "~/prepared")
    fingerprint = load("mnist").fingerprint
    monkeypatch.setenv("TFDS_DATA_DIR", "~/none")
    assert load("mnist", "~/prepared").fingerprint == fingerprint
    assert main(["show", "mnist", "--data-dir=~/prepared"]) == 0
    assert fingerprint in capsys.readouterr().out
    assert main(["prepare", "mnist", "--from=~/originals", "--data-dir=~/prepared"]) == 2
    assert f"{prepared.parent}/originals is not a folder" in capsys.readouterr().err
    with pytest.raises(DataError, match="~nobody-at-all/x is not a folder"):
        load("mnist", "~nobody-at-all/x")


# Damaged data: each function damages the folder of a version of MNIST.

SHARD = "mnist-train.array_record-00000-of-00001"


def edit(file_name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def damage(version: Path) -> None:
        content = json.loads((version / file_name).read_text())
        change(content)
        (version / file_name).write_text(json.dumps(content))

    return damage


def edit_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda version: (version / SHARD).write_bytes(change((version / SHARD).read_bytes()))


def first_split(key: str, value: object) -> Callable[[Path], object]:
    return edit("dataset_info.json", lambda info: info["splits"][0].update({key: value}))


def feature(key: str, *path: str, value: object) -> Callable[[Path], object]:
    """Changes what features.json says of a feature."""

    def change(features: dict[str, Any]) -> None:
        of = features["featuresDict"]["features"][key]
        for step in path[:-1]:
            of = of[step]
        of[path[-1]] = value

    return edit("features.json", change)


def classes(number: object) -> Callable[[Path], object]:
    return feature("label", "classLabel", "numClasses", value=number)


def info(**values: object) -> Callable[[Path], object]:
    return edit("dataset_info.json", lambda content: content.update(values))


def text(file_name: str, content: str) -> Callable[[Path], object]:
    return lambda version: (version / file_name).write_text(content)


def flip_the_middle(content: bytes) -> bytes:
    """Flips a bit in the middle of the records, which fill the file only in part."""
    middle = content.index(b"IDAT") + 100
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "info missing": (lambda v: (v / "dataset_info.json").unlink(), "dataset_info.json is missing"),
    "features missing": (lambda v: (v / "features.json").unlink(), "features.json is missing"),
    "info cut short": (lambda v: (v / "dataset_info.json").write_text("{"), "Failed to load JSON"),
    "shard missing": (lambda v: (v / SHARD).unlink(), "No such file"),
    "shard cut short": (edit_bytes(lambda content: content[:70_000]), "Riegeli"),
    "shard empty": (edit_bytes(lambda content: b""), "at least 64KB"),
    "bit flipped": (edit_bytes(flip_the_middle), "hash mismatch"),
    "split missing": (first_split("name", "validation"), "no split 'train', only validation, test"),
    "split empty": (first_split("shardLengths", ["0"]), "the split 'train' is empty"),
    "too few": (
        first_split("shardLengths", ["31"]),
        "holds 30 examples, dataset_info.json says 31",
    ),
    "too many": (
        first_split("shardLengths", ["29"]),
        "holds 30 examples, dataset_info.json says 29",
    ),
    "labels": (classes("5"), "labels of 'train' go from 0 to 9 instead of 0 to 4"),
    "label that is the number of classes": (
        classes("9"),
        "labels of 'train' go from 0 to 9 instead of 0 to 8",
    ),
    "format": (info(fileFormat="tfrecord"), "is stored as tfrecord"),
    "format that is none": (info(fileFormat="../x\n"), r"fileFormat is '../x\n'"),
    "format not said": (edit("dataset_info.json", lambda i: i.pop("fileFormat")), "as tfrecord"),
    "name that leads out": (info(name="../../x"), "name is '../../x', not mnist or cifar10"),
    "name that is a number": (info(name=7), "name is 7, not mnist or cifar10"),
    "template that leads out": (
        first_split("filepathTemplate", "../../{DATASET}-{SPLIT}"),
        "the files of 'train' are '../../{DATASET}-{SPLIT}'; only {DATASET}-{SPLIT}.",
    ),
    "split twice": (first_split("name", "test"), "names the split 'test' twice"),
    "split that is a text": (info(splits=["train"]), "a split is 'train', not an object"),
    "splits missing": (edit("dataset_info.json", lambda i: i.pop("splits")), "splits is None, not"),
    "lengths that are a number": (first_split("shardLengths", 30), "'train' is 30, not a list"),
    "length below 0": (first_split("shardLengths", ["-30"]), "'train' is '-30', not a number from"),
    "length of 10^40": (first_split("shardLengths", [10**40]), "not a number from 0 to 1000000"),
    "too many in all": (
        first_split("shardLengths", ["999999"] * 2),
        "is 1999998, not a number from",
    ),
    "two shards": (first_split("shardLengths", ["15", "15"]), "No such file: mnist-train.array_re"),
    "two shards, one of them empty": (
        first_split("shardLengths", ["0", "30"]),
        "No such file: mnist-train.array_record-00000-of-00002",
    ),
    "description that is a list": (info(description=[]), "description is [], not a text"),
    "info that is a list": (text("dataset_info.json", "[]"), "dataset_info.json is [], not an obj"),
    "info nested": (text("dataset_info.json", "[" * 100_000), "Failed to load JSON"),
    "info with a number of 5000 digits": (
        text("dataset_info.json", "1" * 5000),
        "Failed to load JSON of dataset_info.json: Exceeds the limit",
    ),
    "info not text": (
        lambda v: (v / "dataset_info.json").write_bytes(b"\xff"),
        "dataset_info.json is not text",
    ),
    "info of 2 MB": (text("dataset_info.json", " " * 2**21), "has more than 1048576 bytes"),
    "info that is a pipe": (lambda v: pipe(v / "dataset_info.json"), "info.json is not a file"),
    "info that is a folder": (lambda v: folder(v / "dataset_info.json"), "info.json is not a file"),
    "features that are null": (text("features.json", "null"), "features.json is None, not an obj"),
    "features of no class": (text("features.json", "{}"), "names the class None for the features"),
    "label missing": (
        edit("features.json", lambda f: f["featuresDict"]["features"].pop("label")),
        "features.json has no feature 'label'",
    ),
    "feature too many": (
        edit("features.json", lambda f: f["featuresDict"]["features"].update({"a\n": {}})),
        r"has a feature 'a\n'; only image, label, id are read",
    ),
    "features nested": (
        edit(
            "features.json",
            lambda f: f["featuresDict"]["features"].update(
                image={"pythonClassName": f["pythonClassName"]}
            ),
        ),
        "names the class 'tensorflow_datasets.core.features.features_dict.FeaturesDict' for image",
    ),
    "no classes": (classes("0"), "labels of 'train' go from 0 to 9 instead of"),
    "classes without number": (classes(None), "numClasses is None, not a number from 0 to 1000"),
    "10^12 classes": (classes(10**12), "numClasses is 1000000000000, not a number from 0 to 1000"),
    "names too few": (text("label.labels.txt", "a\nb\n"), "labels.txt holds 2 different names, fe"),
    "names twice": (text("label.labels.txt", "a\n" * 10), "labels.txt holds 1 different names, f"),
    "name not printable": (
        text("label.labels.txt", "\n".join("abcdefghi") + "\n\x1b[2J"),
        r"label.labels.txt holds a name that cannot be printed: '\x1b[2J'",
    ),
    "shard that is a pipe": (lambda v: pipe(v / SHARD), f"Not a file: {SHARD}"),
    "shard that is a device": (
        lambda v: ((v / SHARD).unlink(), (v / SHARD).symlink_to("/dev/zero")),
        f"Not a file: {SHARD}",
    ),
    "shard of zeros": (edit_bytes(lambda c: bytes(len(c))), f"{SHARD} is not an array_record file"),
    "shard foreign": (edit_bytes(lambda c: b"foreign" * 20_000), f"{SHARD} is not an array_record"),
    "first block missing": (edit_bytes(lambda c: c[65536:]), f"{SHARD} is not an array_record"),
    "last block missing": (edit_bytes(lambda c: c[:-65536]), SHARD),
    "last block zeros": (edit_bytes(lambda c: c[:-65536] + bytes(65536)), f"{SHARD}: "),
}


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_data(damage: str, prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = prepared / "mnist/3.0.1"
    load("mnist", prepared)
    apply, message = DAMAGES[damage]
    apply(version)
    with pytest.raises(DataError) as error:
        load("mnist", prepared)
    assert message in one_line(error)
    assert str(version) in one_line(error)
    assert "python -m train.data prepare mnist" in one_line(error)
    out = prepared / "run"
    assert mlp.main(["--dataset", "mnist", "--data-dir", str(prepared), "--out", str(out)]) == 2
    assert capsys.readouterr() == ("", f"error: {one_line(error)}\n")
    assert not out.exists()


# Other data sets, whose shape and classes their folder tells.


def prepared_as(name: str, prepared: Path) -> Path:
    """Makes a data set `name` of the one that was prepared as MNIST; returns its version."""
    version = prepared / name / "3.0.1"
    shutil.copytree(prepared / "mnist/3.0.1", version)
    for path in version.glob("mnist-*"):
        path.rename(path.with_name(path.name.replace("mnist", name, 1)))
    info(name=name)(version)
    return version


def add_feature(key: str, value: dict[str, Any]) -> Callable[[Path], object]:
    return edit("features.json", lambda f: f["featuresDict"]["features"].update({key: value}))


CLASS_LABEL = "tensorflow_datasets.core.features.class_label_feature.ClassLabel"


def test_any_classification_data_set_that_lies_prepared_is_read(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other labels, texts and splits, as those of CIFAR-100 and SVHN, are passed over."""
    version = prepared_as("house_numbers", prepared)
    coarse = {"classLabel": {"numClasses": "2"}, "pythonClassName": CLASS_LABEL}
    add_feature("coarse_label", coarse)(version)
    extra = {"name": "extra", "shardLengths": ["531131"] * 3}
    edit("dataset_info.json", lambda content: content["splits"].append(extra))(version)
    dataset, mnist = load("house_numbers", prepared), load("mnist", prepared)
    np.testing.assert_array_equal(dataset.x_train, mnist.x_train)
    np.testing.assert_array_equal(dataset.y_test, mnist.y_test)
    assert main(["show", "house_numbers", "--data-dir", str(prepared)]) == 0
    assert "train        uint8 [30, 28, 28, 1]" in capsys.readouterr().out
    assert main(["show", "house_number", "--data-dir", str(prepared)]) == 2
    assert capsys.readouterr().err.endswith("did you mean house_numbers?\n")
    assert mlp.main(["--dataset", "housenumbers", "--data-dir", str(prepared)]) == 2
    assert capsys.readouterr().err.endswith("did you mean house_numbers?\n")


def test_without_a_test_split_examples_are_held_out(prepared: Path) -> None:
    version = prepared_as("flowers", prepared)
    edit("dataset_info.json", lambda content: content["splits"].pop())(version)
    write_records(version, [example(WHOLE, label % 10) for label in range(40)], "flowers")
    dataset = load("flowers", prepared)
    assert (len(dataset.y_train), len(dataset.y_test)) == (30, 10)
    assert "10 of them, 25% of each class, are held out to test on" in dataset.description
    with pytest.raises(ConfigError, match=r"--test 0\.5: is used with data that hold no examples"):
        load("mnist", prepared, test=0.5)


def jpeg(height: int, width: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height), 200).save(file, "jpeg")
    return file.getvalue()


def test_images_without_a_shape_are_of_one_size_or_brought_to_it(prepared: Path) -> None:
    version = prepared_as("flowers", prepared)
    edit("dataset_info.json", lambda content: content["splits"].pop())(version)
    feature("image", "image", "shape", "dimensions", value=["-1", "-1", "1"])(version)
    several = [example(jpeg(9, 7), label % 2) for label in range(10)]
    write_records(version, several, "flowers")
    dataset = load("flowers", prepared)
    assert dataset.x_train.shape == (8, 9, 7, 1)
    np.testing.assert_array_equal(dataset.x_train, 200)
    write_records(version, [*several, example(jpeg(8, 7), 1)], "flowers")
    with pytest.raises(DataError, match="has 8x7 pixels, other images 9x7; --image-size 9x7"):
        load("flowers", prepared)
    assert load("flowers", prepared, image_size="5").x_train.shape == (9, 5, 5, 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (info(name="mnist"), "says that the name is 'mnist', not flowers"),
        (add_feature("box", {"pythonClassName": "os.system"}), "has a feature 'box'; only image"),
        (
            feature("image", "image", "shape", "dimensions", value=["9", "9", "4"]),
            "must be height, width, and 1 or 3 colours",
        ),
        (feature("image", "image", "dtype", value="uint16"), "images are 'uint16', not uint8"),
        (
            feature("image", "image", "shape", "dimensions", value=["9999", "9999", "3"]),
            "30 images of 9999x9999x3 are more than 1073741824 values",
        ),
        (feature("image", "image", "shape", "dimensions", value=["99", "9", "1"]), "not a PNG of"),
    ],
)
def test_other_data_sets_that_are_damaged(
    damage: Callable[[Path], object], message: str, prepared: Path
) -> None:
    version = prepared_as("flowers", prepared)
    damage(version)
    with pytest.raises(DataError) as error:
        load("flowers", prepared)
    assert message in one_line(error)
    assert "prepare it with TensorFlow Datasets" in one_line(error)


# Records: what one of them may be, and what a file may claim to hold.


def write_records(version: Path, records: list[bytes], name: str = "mnist") -> None:
    """Replaces the 30 examples to train on."""
    from array_record.python.array_record_module import ArrayRecordWriter

    shard = SHARD.replace("mnist", name)
    writer = ArrayRecordWriter(str(version / shard), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()
    first_split("shardLengths", [str(len(records))])(version)


def example(
    png: bytes | list[bytes] | None, label: int | list[int] | bytes | float | None
) -> bytes:
    """A record; None leaves a feature out."""
    from tensorflow_datasets.proto import tf_example_pb2

    found = tf_example_pb2.Example()
    if png is not None:
        images = png if isinstance(png, list) else [png]
        found.features.feature["image"].bytes_list.value.extend(images)
    of = found.features.feature["label"] if label is not None else None
    if isinstance(label, bytes):
        of.bytes_list.value.append(label)
    elif isinstance(label, float):
        of.float_list.value.append(label)
    elif label is not None:
        of.int64_list.value.extend(label if isinstance(label, list) else [label])
    return found.SerializeToString()


IHDR = chunk(b"IHDR", struct.pack(">IIBBBBB", 28, 28, 8, 0, 0, 0, 0))
ROWS = bytes(28 * 29)
IEND = chunk(b"IEND", b"")


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def pixels(rows: bytes) -> bytes:
    return chunk(b"IDAT", zlib.compress(rows))


WHOLE = png(IHDR, pixels(ROWS), IEND)
AMOUNT = "an example of 'train' must have one label and image"
RECORDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "no label": (lambda: example(WHOLE, None), AMOUNT),
    "two labels": (lambda: example(WHOLE, [1, 2]), AMOUNT),
    "label that is bytes": (lambda: example(WHOLE, b"1"), AMOUNT),
    "label that is a real number": (lambda: example(WHOLE, 1.0), AMOUNT),
    "label -1": (lambda: example(WHOLE, -1), "labels of 'train' go from -1 to 9 instead of 0 to 9"),
    "label 10": (lambda: example(WHOLE, 10), "labels of 'train' go from 0 to 10 instead of 0 to 9"),
    "label 2^63 - 1": (lambda: example(WHOLE, 2**63 - 1), f"go from 0 to {2**63 - 1} instead of"),
    "no image": (lambda: example(None, 1), AMOUNT),
    "two images": (lambda: example([WHOLE, WHOLE], 1), AMOUNT),
    "empty": (lambda: b"", AMOUNT),
    "not protobuf": (lambda: b"\xff" * 100, f"{AMOUNT}: Error parsing"),
    "cut": (lambda: example(WHOLE, 1)[:-20], f"{AMOUNT}: Error parsing"),
    "image empty": (lambda: example(b"", 1), "an image is not a PNG of 28x28 pixels in mode L"),
    "image of another size": (
        lambda: example(png(chunk(b"IHDR", struct.pack(">IIBBBBB", 27, 28, 8, 0, 0, 0, 0))), 1),
        "an image is not a PNG of 28x28 pixels in mode L",
    ),
    "cut inside a chunk": (lambda: example(WHOLE[:-14], 1), "in 'train', a PNG is cut short"),
    "cut inside a length": (lambda: example(png(IHDR, b"\0\0"), 1), "a PNG is cut short"),
    "cut after a chunk": (lambda: example(WHOLE[:-12], 1), "a PNG is cut short"),
    "chunk of 4 GB": (lambda: example(png(IHDR, b"\xff" * 12), 1), "a PNG is cut short"),
    "wrong checksum": (
        lambda: example(png(IHDR, pixels(ROWS)[:-1] + b"!", IEND), 1),
        "the chunk b'IDAT' of a PNG does not have its checksum",
    ),
    "wrong checksum of the header": (
        lambda: example(png(IHDR[:-1] + b"!", pixels(ROWS), IEND), 1),
        "the chunk b'IHDR' of a PNG does not have its checksum",
    ),
    "wrong checksum of zlib": (
        lambda: example(png(IHDR, chunk(b"IDAT", zlib.compress(ROWS)[:-1] + b"!"), IEND), 1),
        "incorrect data check",
    ),
    "no pixels": (lambda: example(png(IHDR, IEND), 1), "inflate to less than 812 bytes"),
    "pixels too few": (lambda: example(png(IHDR, pixels(ROWS[:-1]), IEND), 1), "to less than 812"),
    "pixels too many": (lambda: example(png(IHDR, pixels(ROWS + b"0"), IEND), 1), "more than 812"),
    "pixels cut": (
        lambda: example(png(IHDR, chunk(b"IDAT", zlib.compress(ROWS)[:-5]), IEND), 1),
        "inflate to less than 812 bytes",
    ),
    "not zlib": (lambda: example(png(IHDR, chunk(b"IDAT", b"none"), IEND), 1), "incorrect header"),
    "filter 7": (lambda: example(png(IHDR, pixels(b"\7" + ROWS[1:]), IEND), 1), "in 'train', "),
}


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_that_is_no_example_of_mnist(record: str, prepared: Path) -> None:
    make, message = RECORDS[record]
    version = prepared / "mnist/3.0.1"
    whole = [example(WHOLE, label) for label in range(10)]
    write_records(version, whole)
    assert load("mnist", prepared).y_train.tolist() == list(range(10))
    write_records(version, [*whole, make()])
    with pytest.raises(DataError) as error:
        load("mnist", prepared)
    assert message in one_line(error)
    assert "python -m train.data prepare mnist" in one_line(error)


def test_a_split_of_two_files_is_read_in_their_order(prepared: Path) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    version = prepared / "mnist/3.0.1"
    labels: list[list[int]] = [[], [3, 1], [4, 1, 5, 9]]
    for i, part in enumerate(labels):
        path = version / f"mnist-train.array_record-{i:05}-of-00003"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for label in part:
            writer.write(example(WHOLE, label))
        writer.close()
    first_split("shardLengths", ["0", "2", "4"])(version)
    assert load("mnist", prepared).y_train.tolist() == [3, 1, 4, 1, 5, 9]
    first_split("shardLengths", ["0", "3", "3"])(version)
    with pytest.raises(
        DataError, match=r"00001-of-00003 holds 2 examples, dataset_info\.json says"
    ):
        load("mnist", prepared)


def test_cifar10_needs_an_id_in_each_record(prepared: Path) -> None:
    shard = "cifar10-train.array_record-00000-of-00001"
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(prepared / "cifar10/3.0.2" / shard), "group_size:1")
    for _ in range(50):
        writer.write(example(WHOLE, 1))
    writer.close()
    with pytest.raises(DataError, match="must have one label, image and id"):
        load("cifar10", prepared)


def peak_of_loading(folder: Path) -> tuple[str, float]:
    """What a process says that loads MNIST, and the most memory that it takes for that, in MB."""
    program = (
        "import resource, sys, train.data, train.errors\n"
        "from tensorflow_datasets.proto import tf_example_pb2\n"
        "from PIL import Image\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000\n"
        "before = used()\n"
        "try: train.data.load('mnist', sys.argv[1])\n"
        "except train.errors.DataError as error: print(error)\n"
        "print(used() - before)"
    )
    message, megabytes = run("-c", program, str(folder)).stdout.splitlines()
    return message, float(megabytes)


@pytest.mark.slow
def test_pixels_that_inflate_to_770_megabytes_are_not_inflated(prepared: Path) -> None:
    version = prepared / "mnist/3.0.1"
    bomb = example(png(IHDR, chunk(b"IDAT", zlib.compress(bytes(770_000_000), 9)), IEND), 1)
    assert len(bomb) < 800_000
    # Alone it is told by its size; among a hundred examples it may be as large as it is.
    write_records(version, [bomb])
    message, megabytes = peak_of_loading(prepared)
    assert "claims to hold more than 5664 bytes for each of 1 examples" in message
    assert megabytes < 100
    write_records(version, [*(example(WHOLE, label % 10) for label in range(200)), bomb])
    message, megabytes = peak_of_loading(prepared)
    assert "in 'train', the pixels of a PNG inflate to more than 812 bytes" in message
    assert megabytes < 100


@pytest.mark.slow
def test_records_that_inflate_to_770_megabytes_are_not_inflated(prepared: Path) -> None:
    version = prepared / "mnist/3.0.1"
    write_records(
        version, [example(WHOLE, label % 10) for label in range(50)] + [bytes(770 * 10**6)]
    )
    assert (version / SHARD).stat().st_size < 200_000
    message, megabytes = peak_of_loading(prepared)
    assert f"{SHARD} claims to hold more than 5664 bytes for each of 51 examples" in message
    assert megabytes < 100


@pytest.mark.parametrize("options", ["group_size:1", "group_size:7", "group_size:1,uncompressed"])
def test_a_file_claims_what_it_holds(options: str, tmp_path: Path) -> None:
    """Records of all sizes, so that headers and blocks meet at many places."""
    from array_record.python.array_record_module import ArrayRecordWriter

    random = np.random.default_rng(0)
    sizes = [int(size) for size in random.integers(0, 3000, 2000)]
    writer = ArrayRecordWriter(str(tmp_path / "file"), options)
    for size in sizes:
        writer.write(random.bytes(size))
    writer.close()
    claimed = tfds_reader._claimed_bytes(tmp_path / "file")
    # Beside the records there is an index of about 10 bytes for each, and a record that ends it.
    assert sum(sizes) < claimed < sum(sizes) + 20 * len(sizes) + 200


# Nothing that a folder names is imported.


PLANTED = "import pathlib; pathlib.Path(__file__).with_name('mark').touch()\nclass Feature: pass\n"


@pytest.mark.parametrize("key", ["image", "label", "id", None])
def test_a_class_that_a_folder_names_is_not_imported(
    key: str | None, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(tmp_path)
    version = prepared / "cifar10/3.0.2"
    if key is None:
        edit("features.json", lambda f: f.update(pythonClassName="planted.Feature"))(version)
    else:
        feature(key, "pythonClassName", value="planted.Feature")(version)
    with pytest.raises(DataError) as error:
        load("cifar10", prepared)
    what = key or "the features"
    assert f"features.json names the class 'planted.Feature' for {what}; only " in one_line(error)
    assert not (tmp_path / "mark").exists()
    assert "planted" not in sys.modules


def test_a_module_that_a_folder_names_is_not_imported(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TFDS notes there which module made the data; it is not needed to read them."""
    (tmp_path / "planted.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(tmp_path)
    whole = load("mnist", prepared)
    info(moduleName="planted", pythonClassName="planted.Feature")(prepared / "mnist/3.0.1")
    (prepared / "mnist/3.0.1/mnist.py").write_text(PLANTED)
    assert load("mnist", prepared).fingerprint == whole.fingerprint
    assert not list(tmp_path.rglob("mark"))
    assert "planted" not in sys.modules


def test_a_description_is_one_printable_line(prepared: Path) -> None:
    info(description="Digits\n\x1b[2J  of old")(prepared / "mnist/3.0.1")
    assert load("mnist", prepared).description == "Digits [2J of old"


# Files changed at random.


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """Flips bits, cuts, takes out, puts in, or writes over a part of a file."""
    changed = bytearray(content)
    at = int(random.integers(len(changed)))
    length = int(random.integers(1, 200))
    noise = random.bytes(length)
    kind = random.integers(6)
    if kind == 0:
        for place in random.integers(len(changed), size=random.integers(1, 10)):
            changed[place] ^= 1 << int(random.integers(8))
    elif kind == 1:
        del changed[at:]
    elif kind == 2:
        del changed[at : at + length]
    elif kind == 3:
        changed[at:at] = noise
    elif kind == 4:
        changed[at : at + length] = bytes(length)
    else:
        changed[at : at + length] = noise
    return bytes(changed)


def test_folders_changed_at_random_are_read_as_they_were_or_refused(
    prepared: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    version = prepared / "cifar10/3.0.2"
    whole = load("cifar10", prepared)
    files = {path: path.read_bytes() for path in sorted(version.iterdir())}
    refused = 0
    for number in range(300):
        path = list(files)[number % len(files)]
        path.write_bytes(mutated(files[path], random))
        try:
            found = load("cifar10", prepared)
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017
            assert str(version) in str(error)  # noqa: PT017
            assert len(str(error)) < 1000  # noqa: PT017
        else:  # Padding was changed, or a text that is only shown.
            assert found.fingerprint == whole.fingerprint
            assert len(found.classes) == 10
        path.write_bytes(files[path])
    assert refused > 150
    assert capfd.readouterr() == ("", "")


def test_records_changed_at_random_are_refused_or_have_the_right_shape(
    prepared: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the checksums of the file itself right, so that protobuf and the PNG are reached."""
    random = np.random.default_rng(1)
    version = prepared / "mnist/3.0.1"
    whole = [example(WHOLE, label) for label in range(10)]
    refused = 0
    for number in range(200):
        write_records(version, [*whole, mutated(whole[number % 10], random)])
        try:
            found = load("mnist", prepared)
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017
            assert str(version) in str(error)  # noqa: PT017
        else:
            assert found.x_train.shape == (11, 28, 28, 1)
            assert 0 <= found.y_train[10] <= 9
    assert refused > 150
    assert capfd.readouterr() == ("", "")


def test_images_of_another_shape(prepared: Path) -> None:
    shutil.rmtree(prepared / "cifar10/3.0.2")
    shutil.copytree(prepared / "mnist/3.0.1", prepared / "cifar10/3.0.2")
    with pytest.raises(DataError, match="not a PNG of 32x32 pixels in mode RGB"):
        load("cifar10", prepared)


def test_the_newest_version_is_read(prepared: Path) -> None:
    (prepared / "mnist/3.0.1").rename(prepared / "mnist/10.0.0")
    (prepared / "mnist/9.0.0").mkdir()
    (prepared / "mnist/incomplete.ABC_11.0.0").mkdir()
    assert len(load("mnist", prepared).y_train) == 30


# Preparing: what is refused, and what is left behind.


def test_registered_archives() -> None:
    import tensorflow_datasets as tfds

    for name, registered in REGISTERED.items():
        url_infos = tfds.builder_cls(name).url_infos
        assert {archive.url for archive in registered} == set(url_infos)
        for archive in registered:
            info = url_infos[archive.url]
            assert (archive.size, archive.sha256) == (int(info.size), info.checksum)
            assert archive.file_name == archive.url.rpartition("/")[2]


def damage_archive(originals: Path, change: Callable[[bytes], bytes]) -> None:
    archive = originals / "cifar-10-binary.tar.gz"
    archive.write_bytes(change(archive.read_bytes()))


def refusal(originals: Path, data_dir: Path, name: str = "cifar10") -> str:
    """The message of a refused `prepare`, which must have written nothing."""
    before = sorted(data_dir.parent.rglob("*"))
    with pytest.raises(DataError) as error:
        prepare(name, originals, data_dir)
    assert sorted(data_dir.parent.rglob("*")) == before
    return one_line(error)


def test_prepare_refuses(originals: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    url = "get it from https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert "'digits' is not one of mnist, cifar10" in refusal(originals, data, "digits")
    assert "is not a folder" in refusal(originals / "nowhere", data)
    assert refusal(tmp_path, data) == f"{tmp_path} holds no cifar-10-binary.tar.gz; {url}"
    (tmp_path / "file").touch()
    assert "file is not a folder" in refusal(originals, tmp_path / "file")


def test_prepare_refuses_archives_cut_short(originals: Path, tmp_path: Path) -> None:
    damage_archive(originals, lambda content: content[:-100])
    assert "cut short" in refusal(originals, tmp_path / "data")


def test_prepare_refuses_archives_with_another_checksum(originals: Path, tmp_path: Path) -> None:
    damage_archive(originals, lambda content: content[:-1] + bytes([content[-1] ^ 1]))
    assert "sha256" in refusal(originals, tmp_path / "data")


def test_prepare_refuses_to_overwrite(originals: Path, prepared: Path) -> None:
    assert refusal(originals, prepared) == (
        f"{prepared}/cifar10/3.0.2 exists; delete that folder to prepare cifar10 anew"
    )


def test_prepare_follows_no_link_in_the_folder(originals: Path, tmp_path: Path) -> None:
    """A link to the folder itself is followed: it is what was named."""
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    data.mkdir()
    elsewhere.mkdir()
    for to in (elsewhere, tmp_path / "nowhere"):
        (data / "mnist").symlink_to(to)
        message = refusal(originals, data, "mnist")
        assert message == f"{data}/mnist is not a folder, or a link to one; move it away"
        (data / "mnist").unlink()
    (data / "mnist").touch()
    assert "mnist is not a folder" in refusal(originals, data, "mnist")
    (data / "mnist").unlink()
    (data / "mnist").mkdir()
    (data / "mnist/3.0.1").symlink_to(tmp_path / "nowhere")
    assert "mnist/3.0.1 exists; delete that folder" in refusal(originals, data, "mnist")
    assert list(elsewhere.iterdir()) == []
    (tmp_path / "link").symlink_to(elsewhere)
    prepare("mnist", originals, tmp_path / "link")
    assert load("mnist", elsewhere).x_train.shape == (30, 28, 28, 1)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), OSError("disk full")])
def test_an_interrupted_prepare_leaves_nothing_behind(
    interruption: BaseException,
    originals: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write = prepare_module._examples

    def write_some(split: str, *arguments: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from write(split, *arguments)
        if split == "test":  # By then the training examples are on the disk.
            assert list((tmp_path / "data").rglob("*train*"))
            raise interruption

    monkeypatch.setattr(prepare_module, "_examples", write_some)
    command = ["prepare", "mnist", "--from", str(originals), "--data-dir", str(tmp_path / "data")]
    interrupted = isinstance(interruption, KeyboardInterrupt)
    assert main(command) == (130 if interrupted else 1)
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert last_line == ("interrupted" if interrupted else "error: disk full")
    assert list((tmp_path / "data").iterdir()) == []


# The command line.


def test_command_line(originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir = ["--data-dir", str(tmp_path / "data")]
    assert main(["prepare", "cifar10", "--from", str(originals), *data_dir]) == 0
    output = capsys.readouterr()
    assert output.out == f"{tmp_path}/data/cifar10/3.0.2\n"
    assert "train: 100%" in output.err
    assert main(["show", "cifar10", *data_dir]) == 0
    output = capsys.readouterr()
    lines = [line.split() for line in output.out.splitlines()]
    assert ["train", "uint8", "[50,", "32,", "32,", "3]"] in lines
    assert ["fingerprint", load("cifar10", tmp_path / "data").fingerprint] in lines
    counts = [np.count_nonzero(labels == 9) for _, labels in CIFAR10.values()]
    assert ["truck", *map(str, counts)] in lines


def test_bad_input_on_the_command_line_exits_with_2_and_one_line() -> None:
    result = run("-m", "train.data", "show", "minst")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "error: data set 'minst' is not one of digits, synth, mnist, cifar10; did you mean mnist?\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shwo", "mnist"], "shwo: must be one of prepare, show; did you mean show?"),
        (
            ["show", "mnist", "--data", "x"],
            "--data: there is no such flag; did you mean --data-dir?",
        ),
        (["show"], "NAME: is missing; python -m train.data show --help says what it is"),
        ([], "needs one of prepare, show first; python -m train.data --help says more"),
    ],
)
def test_unknown_commands_and_flags_exit_with_2_and_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr() == ("", f"error: {message}\n")


def test_a_folder_that_cannot_be_made_exits_with_1(originals: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    target = str(tmp_path / "file" / "data")
    assert main(["prepare", "mnist", "--from", str(originals), "--data-dir", target]) == 1


# The real data.


@pytest.mark.slow
@needs_real_data
def test_real_mnist() -> None:
    from tensorflow_datasets.core.hashing import Hasher

    dataset = load("mnist")
    assert dataset.x_train.shape == (60000, 28, 28, 1)
    assert dataset.x_test.shape == (10000, 28, 28, 1)
    assert np.bincount(dataset.y_train).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    # Stored in TFDS's order; undone, the labels begin as those of the original file do.
    assert dataset.y_train[:5].tolist() == [4, 1, 0, 7, 8]
    order = sorted(range(60000), key=Hasher("train").hash_key)
    assert dataset.y_train[np.argsort(order)[:5]].tolist() == [5, 0, 4, 1, 9]


@pytest.mark.slow
@needs_real_data
def test_real_cifar10() -> None:
    dataset = load("cifar10")
    assert dataset.x_train.shape == (50000, 32, 32, 3)
    assert dataset.x_test.shape == (10000, 32, 32, 3)
    assert np.bincount(dataset.y_train).tolist() == [5000] * 10
    assert np.bincount(dataset.y_test).tolist() == [1000] * 10
    first = [dataset.classes[label] for label in dataset.y_train[:5]]
    assert first == ["frog", "truck", "truck", "deer", "automobile"]
    assert dataset.y_train[:5].tolist() == [6, 9, 9, 4, 1]


def test_synth_is_two_classes_of_points_in_the_plane() -> None:
    dataset = load("synth")
    assert dataset.x_train.shape == (60_000, 1, 2, 1)
    assert dataset.x_test.shape == (10_000, 1, 2, 1)
    assert dataset.x_train.dtype == np.float32
    points = np.concatenate([dataset.x_train, dataset.x_test]).reshape(-1, 2)
    labels = np.concatenate([dataset.y_train, dataset.y_test])
    a, b = points.T.astype(np.float64)
    value = a**2 + 0.95 * a * b + 0.4 * b**2
    assert (np.abs(value - 0.6) > 1e-6).mean() > 0.999
    np.testing.assert_array_equal(labels, value > 0.6)
    np.testing.assert_allclose(points.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(points.T), np.eye(2), atol=0.02)
    assert load("synth").fingerprint == dataset.fingerprint
