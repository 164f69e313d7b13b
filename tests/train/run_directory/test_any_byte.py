"""Whichever single byte of a run directory changes, its checksums tell."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import few
from train.errors import StoreError
from train.run_directory import files, manifest
from train.run_directory.directory import RunDirectory

CONFIG = {"command": "train.mlp", "seed": 1, "learning_rate": 0.1, "runs": [{"l2": 0}, {"l2": 1}]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run directory in which nothing ran."""
    path = tmp_path_factory.mktemp("run") / "run"
    with RunDirectory.create(path, "digits-mlp") as directory:
        directory.write_config(CONFIG)
        directory.write_data({"classes": ["a", "b"]})
        for step in (0, 100):
            directory.append({"run": 0, "seed": 1, "step": step, "test_loss": 1 / 3})
        directory.curves.write_bytes(bytes(range(256)))
        directory.finish({"rows": [{"seeds": [1], "diverged": [None]}]})
    return path


NAMES = ("config.json", "data.json", "metrics.jsonl", "summary.json", "curves.png")


@few
@given(st.data())
def test_a_byte_that_changes_is_found(folder, data):
    name = data.draw(st.sampled_from((*NAMES[1:], manifest.MANIFEST)))
    content = (folder / name).read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    try:
        (folder / name).write_bytes(content[:place] + bytes([other]) + content[place + 1 :])
        if name == manifest.MANIFEST:
            with pytest.raises(StoreError, match=r"manifest.sha256 is damaged"):
                manifest.read_manifest(folder)
        else:
            found = manifest.read_manifest(folder)
            whole = {other: manifest.whole(folder, found, other) for other in NAMES}
            assert whole == {other: other != name for other in NAMES}
    finally:
        (folder / name).write_bytes(content)


@few
@given(st.data())
def test_another_config_is_that_of_another_run(folder, data):
    """White space may change; whatever is read then says the same, or is told apart."""
    content = (folder / "config.json").read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    other = data.draw(st.integers(32, 126).filter(lambda byte: byte != content[place]))
    damaged = content[:place] + bytes([other]) + content[place + 1 :]
    try:
        found = files.parsed_json(damaged)
    except ValueError:
        return
    same = found == CONFIG
    assert (manifest.identity(found) == manifest.read_manifest(folder).identity) == same
    assert same or manifest.identity(found) not in manifest.identities(CONFIG)


@few
@given(st.lists(st.integers(0, 999), min_size=1, max_size=6), st.data())
def test_lines_that_come_later_leave_a_mark_as_it_is(tmp_path_factory, steps, data):
    """And whatever changes before it does not."""
    with RunDirectory.create(tmp_path_factory.mktemp("run"), "digits-mlp") as directory:
        for step in steps:
            directory.append({"step": step})
        mark = json.loads(json.dumps(directory.mark()))
        assert mark["bytes"] == directory.size
        directory.append({"step": 0})
        assert directory.reaches(mark)
        content = (directory.path / "metrics.jsonl").read_bytes()
        place = data.draw(st.integers(0, len(content) - 1))
        changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        assert manifest.reaches(changed, mark) == (place >= mark["bytes"])
        assert not manifest.reaches(content[: mark["bytes"] - 1], mark)
        assert directory.go_back(mark["bytes"]) == [{"step": step} for step in steps]
        assert directory.mark() == mark
