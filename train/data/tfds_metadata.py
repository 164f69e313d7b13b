"""Read the JSON files and class names of a data set that TensorFlow Datasets (TFDS) prepared.

TFDS itself imports whatever class a folder names. So its files are read here, and every name in
them is looked up in a list.
"""

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from train.data.limits import MOST_CLASSES, MOST_VALUES
from train.data.sources import PREPARED, SOURCES, how_to_prepare
from train.errors import DataError

_FEATURES_DICT = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
_IMAGE = "tensorflow_datasets.core.features.image_feature.Image"
_LABEL = "tensorflow_datasets.core.features.class_label_feature.ClassLabel"
_TEXT = "tensorflow_datasets.core.features.text_feature.Text"
_FEATURES = {"image": _IMAGE, "label": _LABEL, "id": _TEXT}
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"

# The files that are read of a folder, beside those of its examples.
METADATA = ("dataset_info.json", "features.json", "label.labels.txt")

# What a folder may claim.
_MOST_EXAMPLES = 1_000_000
_LARGEST_SIDE = 10_000
_LARGEST_TEXT = 2**20  # Bytes of a JSON file or a list of names; the real ones have about 1000.


class Metadata(NamedTuple):
    """What the folder of a version tells about its examples.

    Attributes:
        description: one line about where the data come from.
        classes: the name of each class.
        with_id: whether each example has an `id`, by which they are sorted.
        shape: of an image, [H, W, C]; [None, None, C] where each has its own size.
        shards: the files of each split, and how many examples each holds.
    """

    description: str
    classes: tuple[str, ...]
    with_id: bool
    shape: tuple[int | None, int | None, int]
    shards: dict[str, list[tuple[Path, int]]]


def read_metadata(name: str, version: Path) -> Metadata:
    """Read and check what the folder `version` tells about the data set `name`.

    Raises:
        DataError: the examples are stored in a format that cannot be read here.
        ValueError: a file is missing or damaged; it says which, and what was found.
    """
    info = _read_json(version / "dataset_info.json")
    features = _read_features(version / "features.json")

    stored_as = info.get("fileFormat", "tfrecord")
    if stored_as != "array_record":
        if not (isinstance(stored_as, str) and re.fullmatch("[a-z_]+", stored_as)):
            raise ValueError(f"dataset_info.json says that fileFormat is {_shown(stored_as)}")
        folder = version.parent.parent / "array_record"
        raise DataError(
            f"{version} is stored as {stored_as}, which cannot be read without "
            f"TensorFlow; {how_to_prepare(name, folder)}"
        )
    prefix, known = info.get("name"), PREPARED if name in PREPARED else (name,)
    if prefix not in known:
        raise ValueError(
            f"dataset_info.json says that the name is {_shown(prefix)}, not {' or '.join(known)}"
        )
    description = _typed(info.get("description", ""), str, "dataset_info.json: description")

    shape = _read_shape(features["image"], name)
    lengths = _read_lengths(info, shape)
    shards: dict[str, list[tuple[Path, int]]] = {
        split: [
            (version / f"{prefix}-{split}.array_record-{i:05}-of-{len(lengths[split]):05}", length)
            for i, length in enumerate(lengths[split])
        ]
        for split in ("train", "test")
        if split in lengths
    }
    return Metadata(
        " ".join("".join(c if c.isprintable() else " " for c in description).split()),
        _read_classes(version / "label.labels.txt", features["label"]),
        features.get("id", {}).get("pythonClassName") == _TEXT,
        shape,
        shards,
    )


def _read_lengths(
    info: dict[str, Any], shape: tuple[int | None, int | None, int]
) -> dict[str, list[int]]:
    """Return the number of examples in each file of the splits to train and to test on."""
    lengths: dict[str, list[int]] = {}
    others = []
    for split in _typed(info.get("splits"), list, "dataset_info.json: splits"):
        split = _typed(split, dict, "dataset_info.json: a split")
        title = _typed(split.get("name"), str, "dataset_info.json: the name of a split")
        if title in lengths or title in others:
            raise ValueError(f"dataset_info.json names the split {_shown(title)} twice")
        if title not in ("train", "test"):  # Such as the "extra" of svhn_cropped.
            others.append(title)
            continue
        if split.get("filepathTemplate", _TEMPLATE) != _TEMPLATE:
            raise ValueError(
                f"dataset_info.json says that the files of {_shown(title)} are "
                f"{_shown(split['filepathTemplate'])}; only {_TEMPLATE} is read"
            )
        what = f"dataset_info.json: shardLengths of {_shown(title)}"
        lengths[title] = [
            _number(length, what, _MOST_EXAMPLES)
            for length in _typed(split.get("shardLengths", []), list, what)
        ]
    if "train" not in lengths:
        raise ValueError(f"it has no split 'train', only {', '.join((*others, *lengths))}")
    for title, counts in lengths.items():
        examples = sum(counts)
        if not examples:
            raise ValueError(f"the split {title!r} is empty")
        _number(examples, f"dataset_info.json: the number of examples of {title!r}", _MOST_EXAMPLES)
        if examples * math.prod(size or 1 for size in shape) > MOST_VALUES:
            raise ValueError(
                f"{examples} images of {'x'.join(map(str, shape))} are more than {MOST_VALUES} "
                f"values"
            )
    return lengths


def _read_shape(feature: dict[str, Any], name: str) -> tuple[int | None, int | None, int]:
    """Return the shape of an image, [H, W, C]; H and W are None where each has its own size."""
    if name in SOURCES:  # Declared here, and checked with each image.
        return SOURCES[name].shape
    about = _typed(feature.get("image"), dict, "features.json: image")
    if about.get("dtype", "uint8") != "uint8":
        raise ValueError(f"features.json says that images are {_shown(about['dtype'])}, not uint8")
    dimensions = _typed(about.get("shape"), dict, "features.json: the shape of an image")
    sizes = _typed(dimensions.get("dimensions"), list, "features.json: the shape of an image")
    what = "features.json: the shape of an image"
    if len(sizes) != 3 or str(sizes[2]) not in ("1", "3"):
        raise ValueError(f"{what} is {_shown(sizes)}; must be height, width, and 1 or 3 colours")
    if {"-1", "0"} & {str(size) for size in sizes}:
        return None, None, int(sizes[2])
    height, width = (_number(size, what, _LARGEST_SIDE) for size in sizes[:2])
    return height, width, int(sizes[2])


def _read_features(path: Path) -> dict[str, Any]:
    """Return the features by name, all of the classes that are read here."""
    content = _read_json(path)
    _check_class(content, "the features", _FEATURES_DICT)
    features: dict[str, Any] = _typed(
        content.get("featuresDict"), dict, "features.json: featuresDict"
    )
    features = _typed(features.get("features"), dict, "features.json: features")
    for key, feature in features.items():
        feature = _typed(feature, dict, f"features.json: {key}")
        if key in _FEATURES:
            _check_class(feature, key, _FEATURES[key])
        elif feature.get("pythonClassName") not in (_LABEL, _TEXT):  # Those are passed over.
            raise ValueError(
                f"features.json has a feature {_shown(key)}; only {', '.join(_FEATURES)} are read, "
                f"and texts and other labels passed over"
            )
    for key in ("image", "label"):
        if key not in features:
            raise ValueError(f"features.json has no feature {key!r}")
    return features


def _check_class(feature: dict[str, Any], what: str, allowed: str) -> None:
    named = feature.get("pythonClassName")
    if named != allowed:
        raise ValueError(
            f"features.json names the class {_shown(named)} for {what}; only {allowed} is read"
        )


def _read_classes(path: Path, feature: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the classes: those of the file, or numbers if there is no file."""
    feature = _typed(feature.get("classLabel"), dict, "features.json: classLabel")
    count = _number(feature.get("numClasses"), "features.json: numClasses", MOST_CLASSES)
    if not path.exists():
        return tuple(str(label) for label in range(count))
    lines = (line.strip() for line in _read_text(path).split("\n"))
    names = tuple(line for line in lines if line)
    if len(names) != count or len(set(names)) != count:
        raise ValueError(
            f"{path.name} holds {len(set(names))} different names, features.json says {count}"
        )
    for name in names:
        if not name.isprintable() or len(name) > 100:
            raise ValueError(f"{path.name} holds a name that cannot be printed: {_shown(name)}")
    return names


def _read_json(path: Path) -> dict[str, Any]:
    text = _read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Failed to load JSON of {path.name}: {error}") from error
    content = _typed(content, dict, path.name)
    return content  # type: ignore[no-any-return]


def _read_text(path: Path) -> str:
    """Return the text of a small file; a device or a pipe is not a file, and is not opened."""
    if not path.is_file():
        raise ValueError(f"{path.name} is {'not a file' if path.exists() else 'missing'}")
    with path.open("rb") as file:
        content = file.read(_LARGEST_TEXT + 1)
    if len(content) > _LARGEST_TEXT:
        raise ValueError(f"{path.name} has more than {_LARGEST_TEXT} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not text: {error}") from error


def _typed(value: Any, kind: type, what: str) -> Any:
    """Return a value of a JSON file, checked to be of a type."""
    if not isinstance(value, kind):
        words: dict[type, str] = {dict: "an object", list: "a list", str: "a text"}
        raise ValueError(f"{what} is {_shown(value)}, not {words[kind]}")
    return value


def _number(value: Any, what: str, most: int) -> int:
    """Return a whole number of a JSON file; protobuf writes those of 64 bits as texts."""
    text = str(value)
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) > most:
        raise ValueError(f"{what} is {_shown(value)}, not a number from 0 to {most}")
    return int(text)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
