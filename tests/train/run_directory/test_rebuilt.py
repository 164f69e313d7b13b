"""Runs and networks out of what config.json says, and code that is imported where it is named."""

import hashlib
import sys
from pathlib import Path

import pytest

from train import mlp
from train.errors import ConfigError, Refusal, StoreError
from train.flags.config import ConvnetRun, MlpRun, Source, flags, replaced
from train.run_directory import rebuilt, stored_config
from train.run_directory.reader import Results
from train.run_directory.stored_config import Config

RUN = replaced(MlpRun(), {"hidden": "7", "seed": 3, "keep": "last", "steps": 9, "validation": 0.1})


def results_of(run=RUN, source=None, **changes):
    stored = {name: value for name, value in flags(run).items() if name not in ("out", "resume")}
    command = "train.mlp" if source is None else "train.custom"
    return Results(Path("run"), Config(command, "f", {}, [stored | changes], (), source), [], {})


def test_a_run_comes_back(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "/none/here")
    found = rebuilt.run(results_of(), 0, MlpRun)
    assert flags(found) == flags(RUN)


def test_a_flag_younger_than_the_directory_has_its_value_from_before():
    results = results_of()
    for name in ("keep", "label", "test"):
        results.runs[0].pop(name)
    assert rebuilt.run(results, 0, MlpRun).training.keep == "last"
    results.runs[0].pop("hidden")
    with pytest.raises(StoreError, match=r"^run/config\.json is damaged: hidden: is missing$"):
        rebuilt.run(results, 0, MlpRun)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"learning_rate": -1.0}, "learning-rate -1.0: must be positive"),
        ({"folds": 3, "fold": 3, "validation": None}, "fold 3: is none of 3"),
        ({"folds": 3, "fold": None, "validation": None}, "fold None: is none of 3"),
        ({"folds": 3, "fold": 0}, "--folds 3: must be left out where --validation is given"),
    ],
)
def test_a_run_that_cannot_be_is_damage(changes, line):
    with pytest.raises(StoreError, match=r"^run/config\.json is damaged: ") as error:
        rebuilt.run(results_of(**changes), 0, MlpRun)
    assert line in str(error.value)


def test_a_fold_is_one_of_those_there_are():
    changes = {"folds": 3, "fold": 2, "validation": None}
    assert rebuilt.run(results_of(**changes), 0, MlpRun).data.fold == 2


def test_data_are_looked_for_where_they_are_here(tmp_path, monkeypatch):
    here = rebuilt.run(results_of(data_dir=str(tmp_path)), 0, MlpRun).data.data_dir
    assert here == tmp_path
    assert rebuilt.run(results_of(data_dir="/none/here"), 0, MlpRun).data.data_dir is None


def test_a_command_has_its_own_network():
    assert rebuilt.made(results_of()) == (MlpRun, mlp.network)
    config = Config("train.convnet", "f", {}, [], ())
    assert rebuilt.made(Results(Path("run"), config, [], {})).kind is ConvnetRun
    with pytest.raises(StoreError, match=r"run is a run of python -m train\.mlp: leave --network"):
        rebuilt.made(results_of(), "net.py:net")


CODE = "from jaxnets.layers import Linear\n\ndef net(classes):\n    return Linear(classes)\n"


def test_code_is_run_only_where_it_is_named_and_the_same(tmp_path, monkeypatch):
    path = tmp_path / "net_that_is_named.py"
    path.write_text(CODE)
    name = f"{path}:net"
    source = Source(name, hashlib.sha256(CODE.encode()).hexdigest())
    with pytest.raises(StoreError, match="was trained with code, which is run only where you name"):
        rebuilt.made(results_of(source=source))
    found = rebuilt.made(results_of(source=source), name)
    assert found.kind.source == source
    function = sys.modules["net_that_is_named"].net
    assert rebuilt.made(results_of(source=source), function).kind.source == source
    path.write_text(CODE + "raise SystemExit\n")
    with pytest.raises(Refusal) as error:
        rebuilt.made(results_of(source=source), name)
    assert "SystemExit" not in str(error.value)
    del sys.modules["net_that_is_named"]


# --- what config.json may say --------------------------------------------------------------------


def test_a_long_text_is_cut():
    assert stored_config.shown("a" * 38) == f"'{'a' * 38}'"
    assert stored_config.shown("a" * 39) == f"'{'a' * 36}..."
    assert stored_config.shown("é") == "'\\xe9'"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("steps", 5, True), ("steps", None, True), ("steps", 5.0, False), ("steps", True, False),
        ("steps", "5", False), ("learning_rate", 1, True), ("learning_rate", 0.5, True),
        ("learning_rate", True, False), ("learning_rate", float("inf"), False),
        ("norm", "batch", True), ("norm", "none of these", False), ("norm", None, False),
        ("test_curve", True, True), ("test_curve", 1, False), ("hidden", "5", True),
        ("hidden", 5, False), ("out", "a", True), ("out", "a\0", False),
        ("dataset", "digits", True),
        ("dataset", "/a/b.csv", True), ("dataset", "b.csv", False), ("dataset", "Digits", False),
        ("none", 5, False),
    ],
)  # fmt: skip
def test_a_flag_has_a_value_of_its_type(name, value, allowed):
    if allowed:
        stored_config.check_flags([(name, value)], MlpRun)
    else:
        with pytest.raises(ConfigError):
            stored_config.check_flags([(name, value)], MlpRun)


def test_a_network_is_made_by_the_code_that_it_was_begun_with():
    before = Source("/a/net.py:net", "a" * 64)
    stored_config.check_source(Path("run"), before, Source("/b/net.py:net", "a" * 64))
    stored_config.check_source(Path("run"), before, None)
    stored_config.check_source(Path("run"), None, before)
    with pytest.raises(
        StoreError, match=r"run is a run of /a/net\.py:net, not of /a/net\.py:other"
    ):
        stored_config.check_source(Path("run"), before, Source("/a/net.py:other", "a" * 64))
    with pytest.raises(
        StoreError, match=r"whose source has changed since: .* \(sha256 a{12}\.\.\.\)"
    ):
        stored_config.check_source(Path("run"), before, Source("/a/net.py:net", "b" * 64))
