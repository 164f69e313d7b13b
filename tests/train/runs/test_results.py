"""What the runs of a sweep give in Python, of results that nothing was trained for."""

import math
import types
from pathlib import Path

import matplotlib.pyplot
import numpy as np
import pytest

from train.data import Dataset
from train.data.schema import Schema
from train.errors import DataError, StoreError
from train.flags.config import MlpRun, flags, replaced
from train.run_directory.summary import Result, configurations, ranked
from train.runs import reading
from train.runs.fitting import _dataset, _flags_as_keywords, _network, fit
from train.runs.results import RunRecords, Runs
from train.runs.trained import Network


def records(*accuracies):
    return [
        {"step": 5 * n, "test_loss": 2.0 - accuracy, "test_accuracy": accuracy}
        for n, accuracy in enumerate(accuracies, 1)
    ]


# Two configurations of two seeds; the first run of the better one diverged.
GIVEN = {
    ("5", 0): records(0.25, 0.5), ("5", 1): records(0.25, 0.625),
    ("6", 0): records(0.5), ("6", 1): records(0.5, 0.75),
}  # fmt: skip


@pytest.fixture
def runs():
    results = [
        Result(replaced(MlpRun(), {"hidden": hidden, "seed": seed}), found)
        for (hidden, seed), found in GIVEN.items()
    ]
    results[2].end = results[2].end._replace(diverged=7)
    rows = [row for row, _ in ranked(configurations(results))]
    summary = {"dataset": {"name": "noise", "description": "Noise & <more>."}, "rows": rows}
    known = [RunRecords(n, flags(r.run), r.records) for n, r in enumerate(results)]
    return Runs(summary, known, lambda index: f"network {index}", "mlp")


def test_runs_are_a_sequence_of_networks(runs):
    assert len(runs) == 4
    assert list(runs) == [f"network {n}" for n in range(4)]
    assert runs[2] == "network 2"
    with pytest.raises(IndexError, match="there is no run 4 among 4 runs"):
        runs[4]


def test_the_best_is_the_first_of_the_best_configuration_that_did_not_diverge(runs):
    assert runs.best == "network 3"
    for row in runs.summary["rows"]:
        row["diverged"] = [1, 1]
    with pytest.raises(FloatingPointError, match="all runs diverged; a smaller learning_rate"):
        _ = runs.best


def test_a_frame_of_runs(runs):
    frame = runs.frame()
    assert list(frame.index) == [0, 1, 2, 3]
    assert frame["hidden"].tolist() == ["5", "5", "6", "6"]
    assert frame["seed"].tolist() == [0, 1, 0, 1]
    assert frame["test_accuracy"].tolist()[:2] == [0.5, 0.625]
    assert math.isnan(frame["test_accuracy"][2])
    assert frame["test_accuracy"].dtype == float
    assert frame["diverged"][2] == 7
    assert "fold" not in frame
    assert "train_loss" not in frame


def test_a_frame_of_configurations(runs):
    frame = runs.frame("configuration")
    assert frame["hidden"].tolist() == ["6", "5"]
    assert frame["test_accuracy"].tolist() == [0.75, 0.5625]
    assert frame["runs"].tolist() == [2, 2]
    assert frame["diverged"].tolist() == [1, 0]
    np.testing.assert_allclose(frame["test_accuracy_std"], [0, 0.125 / math.sqrt(2)])
    with pytest.raises(ValueError, match="each='seed': must be 'run' or 'configuration'"):
        runs.frame("seed")


def test_all_evaluations_are_the_history(runs):
    assert runs.history()["test_accuracy"].tolist() == [
        0.25, 0.5, 0.25, 0.625, 0.5, 0.5, 0.75,
    ]  # fmt: skip


def test_it_shows_as_a_table(runs):
    lines = repr(runs).splitlines()
    assert lines[0] == "noise: Noise & <more>."
    assert repr(runs) == repr(runs).rstrip()
    assert max(map(len, lines)) <= 80
    page = runs._repr_html_()
    assert page.startswith("<p>noise: Noise &amp; &lt;more&gt;.</p><table")
    assert page.count("<tr") == 1 + 2
    assert "<th></th>" in page
    assert "<td>0.7500</td>" in page
    assert "border" not in page
    runs.summary["dataset"]["description"] = "a" * 90
    assert max(map(len, repr(runs).splitlines())) == 80
    assert page.endswith("</p>")


def test_a_figure_is_of_the_configurations_in_their_order(runs, monkeypatch):
    given = []
    monkeypatch.setattr("train.report.figures.results", lambda *a: given.append(a))
    runs.plot("a.png")
    ((found, where, name, dataset),) = given
    assert [row["config"]["hidden"] for row, _ in found] == ["6", "5"]
    assert [several for _, several in found] == [
        [GIVEN["6", 0], GIVEN["6", 1]], [GIVEN["5", 0], GIVEN["5", 1]],
    ]  # fmt: skip
    assert (where, name, dataset["name"]) == (Path("a.png"), "mlp", "noise")
    with pytest.raises(ValueError, match=r"path a\.gif: must end in \.png, \.pdf, \.svg"):
        runs.plot("a.gif")
    assert not matplotlib.pyplot.get_fignums()


# --- networks ------------------------------------------------------------------------------------

Y = np.array([0, 1, 1], np.int32)
X = np.zeros((3, 2), np.float32)
DATA = Dataset(
    "noise", "Noise.", X, Y, X, Y, ("a", "b"), "fingerprint", schema=Schema((2,), "float32")
)


def test_a_network_predicts_labels_and_probabilities():
    trained = types.SimpleNamespace(
        state=types.SimpleNamespace(params="p", statistics="s"),
        examples=lambda x: x * 2,
        logits=lambda x: np.float32(x),
    )
    network = Network(3, {}, trained, DATA, np.array(["no", "yes"]))
    assert repr(network) == "Network(run 3, 2 classes)"
    assert network.predict([[0.5, 0], [0, 0.5], [0, 0]]).tolist() == ["no", "yes", "no"]
    odds = network.predict_proba([0, 0.5])[0]
    assert odds.sum() == pytest.approx(1)
    assert odds[1] / odds[0] == pytest.approx(math.e)


def test_a_run_that_is_not_finished_is_not_loaded(monkeypatch):
    stored = types.SimpleNamespace(summary=None, path=Path("/a"))
    seen = []
    monkeypatch.setattr(reading.reader, "read", lambda path: seen.append(path) or stored)
    monkeypatch.setenv("HOME", "/home/one")
    with pytest.raises(StoreError, match=r"^/a is not finished: it holds no summary\.json$"):
        reading.load("~/a")
    assert seen == [Path("/home/one/a")]


def test_a_network_is_not_loaded_with_other_data(monkeypatch):
    config = types.SimpleNamespace(fingerprint="another")
    stored = types.SimpleNamespace(path=Path("/a"), config=config, runs=[{"seed": 3}])
    monkeypatch.setattr(reading.reader, "read", lambda path: stored)
    monkeypatch.setattr(reading.rebuilt, "made", lambda stored, own: (MlpRun, None))
    monkeypatch.setattr(reading.rebuilt, "run", lambda stored, index, kind: kind())
    with pytest.raises(StoreError, match="/a was trained on another noise, with fingerprint ano"):
        reading.of_directory(Path("/a"), 0, DATA)
    config.fingerprint = "fingerprint"
    state = types.SimpleNamespace(state=types.SimpleNamespace(params=1, statistics=2))
    monkeypatch.setattr(reading.trained_network, "load", lambda *a: state)
    found = reading.of_directory(Path("/a"), 0, DATA)
    assert (found.index, found.flags, found.params) == (0, {"seed": 3}, 1)


def test_a_run_directory_knows_its_data_itself(monkeypatch):
    """The numbers of its preprocessing are those that it was trained with."""
    config = types.SimpleNamespace(fingerprint="fingerprint", command="train.mlp")
    stored = types.SimpleNamespace(
        path=Path("/a"), config=config, summary={"rows": []}, runs=[{"seed": 3}], records=[[5]]
    )
    known = types.SimpleNamespace(dataset=DATA, affine=lambda run: ("affine", run))
    given = []
    monkeypatch.setattr(reading.reader, "read", lambda path: stored)
    monkeypatch.setattr(reading.rebuilt, "made", lambda stored, own: (own, "made"))
    monkeypatch.setattr(reading.rebuilt, "run", lambda stored, index, kind: (index, kind))
    monkeypatch.setattr(reading.data_file, "read", lambda stored: known)
    state = types.SimpleNamespace(state=types.SimpleNamespace(params=1, statistics=2))
    monkeypatch.setattr(reading.trained_network, "load", lambda *a: given.append(a) or state)
    runs = reading.load(directory="/a", network="own")
    assert (len(runs), runs.path, runs._name) == (1, Path("/a"), "mlp")
    assert runs[0].flags == {"seed": 3}
    run = (0, "own")
    assert given == [(stored, 0, "made", run, DATA, ("affine", run))]
    monkeypatch.setattr(reading.data_file, "read", lambda stored: None)
    monkeypatch.setattr(reading, "load_for", lambda run: DATA)  # Of an earlier version.
    assert runs[0].flags == {"seed": 3}
    assert given[1] == (stored, 0, "made", run, DATA, None)


def test_refusals_call_flags_as_keywords_are():
    with pytest.raises(DataError, match=r"^give data_dir$"), _flags_as_keywords():
        raise DataError("give --data-dir")
    plain = DataError("none")
    with pytest.raises(DataError) as error, _flags_as_keywords():
        raise plain
    assert error.value is plain


def test_labels_are_those_that_were_given_or_indices():
    assert reading.labels_of(DATA).tolist() == [0, 1]
    named = Dataset(
        "n", "N.", X, Y, X, Y, ("a", "b"), "f", schema=Schema((2,), "float32", labels=("a", "b"))
    )
    assert reading.labels_of(named).tolist() == ["a", "b"]


# --- what fit is given ---------------------------------------------------------------------------


def test_a_network_is_a_name_a_layer_or_a_function():
    assert _network("mlp")[:2] == ("mlp", MlpRun)
    with pytest.raises(ValueError, match="network='mlpp': must be one of mlp, convnet, a Layer or"):
        _network("mlpp")
    with pytest.raises(TypeError, match="a Layer or a function; got int"):
        _network(5)

    def net(classes, *, width: int = 64):
        """A network."""

    assert _network(net)[0] != "mlp"


def test_data_are_given_by_name_too():
    with pytest.raises(TypeError, match="data: must be arrays"):
        fit(data=3)
    with pytest.raises(TypeError):
        fit("digits", "mlp")


def test_arrays_become_data_and_flags_that_mean_nothing_are_refused():
    which = MlpRun().data
    x, y = np.zeros((8, 2)), [0, 1] * 4
    assert _dataset("digits", which) is None
    assert _dataset(DATA, which) is DATA
    assert len(_dataset((x, y), replaced(MlpRun(), {"test": 0.5}).data).y_test) == 4
    with pytest.raises(ValueError, match=r"--test 0\.5: is used with data that hold no examples"):
        _dataset(DATA, replaced(MlpRun(), {"test": 0.5}).data)
    with pytest.raises(ValueError, match=r"--label a: is used with a \.csv or \.parquet"):
        _dataset((x, y), replaced(MlpRun(), {"label": "a"}).data)
