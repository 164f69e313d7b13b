"""What the files beside prepared data may hold: how much of it, and of which kind."""

import pytest

from train.data import tfds_metadata
from train.data.tfds_metadata import _number, _read_json, _read_text, _shown, _typed


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
