"""What the files beside prepared data may hold: how much of it, and of which kind."""

import json
from pathlib import Path
from typing import Any

import pytest

from train.data import tfds_metadata
from train.data.tfds_metadata import (
    _FEATURES,
    _FEATURES_DICT,
    _LABEL,
    _TEMPLATE,
    _TEXT,
    Metadata,
    _number,
    _read_json,
    _read_text,
    _shown,
    _typed,
    read_metadata,
)
from train.errors import DataError


def test_a_text_has_so_many_bytes(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    monkeypatch.setattr(tfds_metadata, "_LARGEST_TEXT", 10)
    path.write_text("0123456789")
    assert _read_text(path) == "0123456789"
    path.write_text("0123456789a")
    with pytest.raises(ValueError, match=r"^a\.txt has more than 10 bytes$"):
        _read_text(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"^a\.txt is not text: "):
        _read_text(path)
    with pytest.raises(ValueError, match=r" is not a file$"):
        _read_text(tmp_path)
    with pytest.raises(ValueError, match=r"^none is missing$"):
        _read_text(tmp_path / "none")


@pytest.mark.parametrize("text", ["{", "[" * 100_000])
def test_what_is_no_json_is_said(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"^Failed to load JSON of a\.json: "):
        _read_json(tmp_path / "a.json")


def test_a_value_is_of_its_type():
    for value, kind, words in (({}, dict, "object"), ([], list, "list"), ("", str, "text")):
        assert _typed(value, kind, "it") is value
        with pytest.raises(ValueError, match=f"^it is 5, not an? {words}$"):
            _typed(5, kind, "it")


@pytest.mark.parametrize(
    ("value", "most", "number"),
    [(0, 9, 0), ("9", 9, 9), (10, 9, None), (-1, 9, None), (True, 9, None), (1.5, 9, None),
     ("9" * 18, 10**18, 10**18 - 1), ("0" * 19, 9, None), (None, 9, None), ("", 9, None)],
)  # fmt: skip
def test_a_number_is_whole_and_ends_somewhere(value, most, number):
    if number is not None:
        assert _number(value, "it", most) == number
    else:
        with pytest.raises(ValueError, match=f"^it is .*, not a number from 0 to {most}$"):
            _number(value, "it", most)


def test_a_long_value_is_cut():
    assert _shown("a" * 78) == f"'{'a' * 78}'"
    assert _shown("a" * 79) == f"'{'a' * 76}..."


# A whole folder.


def folder(
    tmp_path: Path,
    info: dict[str, Any] | None = None,
    features: dict[str, Any] | None = None,
    *,
    sizes: object = (4, "5", "3"),
    count: object = 2,
    names: str | None = "cat\n dog \n\n",
) -> Path:
    """Write what describes a data set `pets`; `info` and `features` replace or, None, drop."""
    told = {
        "name": "pets",
        "fileFormat": "array_record",
        "description": " Cats\nand \x1b dogs ",
        "splits": [
            {"name": "test", "shardLengths": ["3"]},
            {"name": "extra", "shardLengths": "any"},
            {"name": "train", "shardLengths": ["7", 2], "filepathTemplate": _TEMPLATE},
        ],
    } | (info or {})
    kinds = {
        "image": {
            "pythonClassName": _FEATURES["image"],
            "image": {"shape": {"dimensions": sizes}, "dtype": "uint8"},
        },
        "label": {"pythonClassName": _LABEL, "classLabel": {"numClasses": count}},
    } | (features or {})
    kinds = {key: kind for key, kind in kinds.items() if kind is not None}
    version = tmp_path / "pets" / "1.0.0"
    version.mkdir(parents=True, exist_ok=True)
    (version / "dataset_info.json").write_text(
        json.dumps({key: value for key, value in told.items() if value is not None})
    )
    (version / "features.json").write_text(
        json.dumps({"pythonClassName": _FEATURES_DICT, "featuresDict": {"features": kinds}})
    )
    if names is not None:
        (version / "label.labels.txt").write_text(names)
    return version


def test_a_folder_is_described(tmp_path):
    version = folder(tmp_path)
    assert read_metadata("pets", version) == Metadata(
        "Cats and dogs",
        ("cat", "dog"),
        False,
        (4, 5, 3),
        {
            "train": [
                (version / "pets-train.array_record-00000-of-00002", 7),
                (version / "pets-train.array_record-00001-of-00002", 2),
            ],
            "test": [(version / "pets-test.array_record-00000-of-00001", 3)],
        },
    )


def test_texts_and_other_labels_are_passed_over(tmp_path):
    more = {"id": {"pythonClassName": _TEXT}, "breed": {"pythonClassName": _LABEL}}
    assert read_metadata("pets", folder(tmp_path, features=more)).with_id
    more = {"note": {"pythonClassName": _TEXT}}
    assert not read_metadata("pets", folder(tmp_path, features=more)).with_id


def test_classes_without_names_are_numbered(tmp_path):
    version = folder(tmp_path, count="3", names=None)
    assert read_metadata("pets", version).classes == ("0", "1", "2")


@pytest.mark.parametrize("sizes", [[-1, -1, 1], [9, "-1", 1], ["0", 9, 1]])
def test_images_may_have_several_sizes(tmp_path, sizes):
    assert read_metadata("pets", folder(tmp_path, sizes=sizes)).shape == (None, None, 1)


def test_the_shape_of_a_known_data_set_is_declared(tmp_path):
    version = folder(tmp_path, {"name": "cifar10"}, sizes=[9])
    assert read_metadata("cifar10", version).shape == (32, 32, 3)
    assert read_metadata("mnist", version).shape == (28, 28, 1)


def test_a_folder_may_claim_so_much(tmp_path, monkeypatch):
    whole = {"splits": [{"name": "train", "shardLengths": [1_000_000]}]}
    assert read_metadata("pets", folder(tmp_path, whole, sizes=[1, 1, 1])).shape == (1, 1, 1)
    assert read_metadata("pets", folder(tmp_path, sizes=[10_000, 1, 1])).shape == (10_000, 1, 1)
    monkeypatch.setattr(tfds_metadata, "MOST_VALUES", 9 * 4 * 5 * 3)
    assert read_metadata("pets", folder(tmp_path)).shape == (4, 5, 3)
    monkeypatch.setattr(tfds_metadata, "MOST_VALUES", 9 * 4 * 5 * 3 - 1)
    with pytest.raises(ValueError, match=r"^9 images of 4x5x3 are more than 539 values$"):
        read_metadata("pets", folder(tmp_path))
    monkeypatch.setattr(tfds_metadata, "MOST_VALUES", 9)  # An unknown size counts as one pixel.
    assert read_metadata("pets", folder(tmp_path, sizes=[-1, -1, 1])).shape == (None, None, 1)


def of_split(**values: object) -> dict[str, Any]:
    return {"splits": [{"name": "train", "shardLengths": [5]} | values]}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"info": {"fileFormat": 5}}, "that fileFormat is 5$"),
        ({"info": {"fileFormat": "a b"}}, "that fileFormat is 'a b'$"),
        ({"info": {"name": "mnist"}}, "the name is 'mnist', not pets$"),
        ({"info": {"description": 5}}, "description is 5, not a text$"),
        ({"info": {"splits": None}}, "splits is None, not a list$"),
        ({"info": {"splits": ["train"]}}, "a split is 'train', not an object$"),
        ({"info": {"splits": [{"name": 5}]}}, "the name of a split is 5, not a text$"),
        ({"info": {"splits": [{"name": "b"}] * 2}}, "names the split 'b' twice$"),
        (
            {"info": {"splits": [{"name": "train", "shardLengths": [5]}] * 2}},
            "names the split 'train' twice$",
        ),
        (
            {"info": {"splits": [{"name": "b"}, {"name": "test", "shardLengths": [5]}]}},
            "it has no split 'train', only b, test$",
        ),
        ({"info": of_split(filepathTemplate="a")}, "files of 'train' are 'a'; only {DATASET}"),
        ({"info": of_split(shardLengths=5)}, "shardLengths of 'train' is 5, not a list$"),
        ({"info": of_split(shardLengths=[-5])}, "shardLengths of 'train' is -5, not a number"),
        ({"info": of_split(shardLengths=[0, 0])}, "the split 'train' is empty$"),
        ({"info": of_split(shardLengths=[10**6, 1])}, "of 'train' is 1000001, not a number from"),
        ({"sizes": [4, 5]}, "must be height, width, and 1 or 3 colours$"),
        ({"sizes": [4, 5, 2]}, "must be height, width, and 1 or 3 colours$"),
        ({"sizes": [4, 5, 3, 3]}, "must be height, width, and 1 or 3 colours$"),
        ({"sizes": [4, 10_001, 3]}, "an image is 10001, not a number from 0 to 10000$"),
        ({"sizes": 5}, "the shape of an image is 5, not a list$"),
        ({"features": {"image": None}}, "has no feature 'image'$"),
        ({"features": {"label": None}}, "has no feature 'label'$"),
        ({"features": {"box": {}}}, "has a feature 'box'; only image, label, id are read"),
        ({"features": {"box": 5}}, "box is 5, not an object$"),
        ({"features": {"id": {"pythonClassName": "a"}}}, "names the class 'a' for id; only "),
        (
            {"features": {"image": {"pythonClassName": _FEATURES["image"], "image": 5}}},
            "image is 5, not an object$",
        ),
        ({"count": 1001}, "numClasses is 1001, not a number from 0 to 1000$"),
        ({"count": 3}, "holds 2 different names, features.json says 3$"),
        ({"names": "cat\ncat\n"}, "holds 1 different names, features.json says 2$"),
        ({"names": "cat\nd\x1bg\n"}, r"a name that cannot be printed: 'd\\x1bg'$"),
        ({"names": f"cat\n{'d' * 101}\n"}, "a name that cannot be printed: 'ddd"),
    ],
)
def test_what_a_folder_must_not_say(tmp_path, change, problem):
    version = folder(tmp_path, **change)
    with pytest.raises(ValueError, match=problem) as error:
        read_metadata("pets", version)
    assert not isinstance(error.value, DataError)


def test_a_name_has_a_hundred_letters_at_most(tmp_path):
    version = folder(tmp_path, names=f"cat\n{'d' * 100}\n")
    assert read_metadata("pets", version).classes == ("cat", "d" * 100)


@pytest.mark.parametrize("stored_as", ["tfrecord", None])
def test_another_format_is_named_with_what_to_do(tmp_path, stored_as):
    version = folder(tmp_path, {"fileFormat": stored_as})
    with pytest.raises(DataError) as error:
        read_metadata("pets", version)
    assert f"{version} is stored as tfrecord, which cannot be read without" in str(error.value)
    assert f"data_dir={str(tmp_path / 'array_record')!r}" in str(error.value)
