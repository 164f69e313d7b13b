import json

import jax
import numpy as np
import pytest
from rich.console import Console

from train.engine import assembly
from train.engine.sharding import choose_lockstep
from train.errors import ConfigError
from train.flags.config import MlpRun, flags
from train.flags.sweep import groups
from train.metrics import METRICS as DECLARED
from train.mlp import main
from train.report import figures, tables
from train.report.progress import Progress
from train.run_directory.summary import judge, rank, row_of
from train.training.command import parse

pytestmark = pytest.mark.slow

METRICS = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


def runs_of(*arguments):
    return parse(MlpRun, list(arguments), "prog", "description").runs


def values_of(runs, *names):
    return [tuple(flags(run)[name] for name in names) for run in runs]


def read(path):
    return json.loads(path.read_text())


def metrics(path, run=0):
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["run"] == run]


# --- which runs ----------------------------------------------------------------------------------


def test_the_runs_are_the_product_times_the_seeds():
    arguments = ["--learning-rate", "0.1", "0.2", "--hidden", "5", "6-7", "--seeds", "2"]
    runs = runs_of(*arguments, "--seed", "3")
    assert values_of(runs, "hidden", "learning_rate", "seed") == [
        (hidden, rate, seed) for hidden in ("5", "6-7") for rate in (0.1, 0.2) for seed in (3, 4)
    ]


def test_a_flag_without_effect_makes_no_runs():
    runs = runs_of("--optimizer", "adam", "momentum", "--momentum", "0.5", "0.9")
    assert values_of(runs, "optimizer", "momentum") == [
        ("adam", None),
        ("momentum", 0.5),
        ("momentum", 0.9),
    ]
    runs = runs_of("--initializer", "he", "normal", "--optimizer", "sgd", "adamw")
    assert set(values_of(runs, "initializer", "initial_std", "optimizer", "weight_decay")) == {
        (*initializer, *optimizer)
        for initializer in (("he", None), ("normal", 1e-4))
        for optimizer in (("sgd", None), ("adamw", 0.01))
    }
    assert len(runs_of("--l2", "0.1", "0.1")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning-rate", "0.1", "-1"], "--learning-rate -1.0: must be positive"),
        (["--hidden", "5", "0"], "--hidden 0: "),
        (["--hidden"], "--hidden: needs a value"),
        (["--momentum", "0.5", "0.9"], "--momentum 0.5 0.9: is used with --optimizer momentum or"),
        (["--steps", "1", "2", "--epochs", "1"], "--epochs 1: must be left out"),
        (["--seeds", "0"], "--seeds 0: must be a whole number from 1 to 10000"),
        (["--seed", str(2**32 - 1), "--seeds", "2"], f"--seed {2**32}: "),
        (["--lockstep", "0"], "--lockstep 0: must be auto, or a whole number from 1 on"),
        (["--seeds", "10000", "--l2", *map(str, range(11))], "the flags make 110000 runs: "),
        (["--optimizer", "adam", "sgd", "--momentum", "0.5"], "--momentum 0.5: is used with"),
        (["--batch-size", "5", "1294"], "--batch-size 1294: must be at most 1293"),
    ],
    ids=lambda a: " ".join(a)[:40],
)
def test_each_value_is_checked(here, capsys, arguments, message):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert not list(here.iterdir())


def test_one_value_is_all_that_some_flags_take():
    for flag, values in [("--seed", "1 2"), ("--eval-every", "1 2"), ("--out", "a b")]:
        with pytest.raises(ConfigError, match="is neither a flag, nor a value of the flag before"):
            runs_of(flag, *values.split())
    with pytest.raises(ConfigError):
        runs_of("--seeds", "10001")


def test_a_search_draws_from_ranges():
    arguments = ["--learning-rate", "1e-4", "1e-1", "--dropout", "0.1", "0.5", "--l2", "0.25"]
    more = ["--optimizer", "momentum", "--momentum", "0.9", "0.999", "--hidden", "5", "6", "7"]
    runs = runs_of(*arguments, *more, "--search", "random:400", "--seeds", "2", "--seed", "3")
    assert len(runs) == 800
    assert [run.training.seed for run in runs[:4]] == [3, 4, 3, 4]
    found = values_of(runs[::2], "learning_rate", "dropout", "momentum", "hidden", "l2")
    rates, dropouts, momenta, hidden, l2 = map(np.array, zip(*found, strict=True))
    assert len(set(rates)) > 390
    for values, low, high in [
        (np.log10(rates), -4, -1),
        (dropouts, 0.1, 0.5),
        (-np.log10(1 - momenta), 1, 3),
    ]:
        # Uniform: an interval of a tenth of the range holds a tenth of them, ± 3 deviations.
        counts, _ = np.histogram(values, bins=10, range=(low - 1e-9, high + 1e-9))
        assert counts.sum() == 400
        assert np.abs(counts - 40).max() < 3.5 * 6
    assert {str(width): 90 < (hidden == width).sum() < 180 for width in "567"} == dict.fromkeys(
        "567", True
    )
    assert set(l2) == {0.25}
    again = runs_of(*arguments, *more, "--search", "random:400", "--seeds", "2", "--seed", "3")
    assert again == runs
    other = runs_of(*arguments, *more, "--search", "random:400", "--seeds", "2", "--seed", "4")
    assert values_of(other[:1], "learning_rate") != values_of(runs[:1], "learning_rate")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--l2", "0", "0.1"], "--l2 0 0.1: a range of --search is log-uniform here, so both ends"),
        (["--schedule", "step", "--decay", "0.5", "1"], "--decay 0.5 1: a range of --search is"),
    ],
)
def test_a_range_that_cannot_be_drawn_from_is_refused(arguments, message):
    with pytest.raises(ConfigError) as error:
        runs_of(*arguments, "--search", "random:3")
    assert str(error.value).startswith(message)
    assert len(runs_of(*arguments)) == 2  # Without --search they are two values.


def test_folds_multiply_the_runs():
    runs = runs_of("--folds", "3", "--seeds", "2", "--learning-rate", "0.1", "0.2")
    assert values_of(runs[:6], "fold", "seed", "validation") == [
        (fold, seed, None) for fold in range(3) for seed in range(2)
    ]
    assert len(runs) == 12
    assert len(groups(runs, [9] * 12)) == 3  # What is trained on differs.


def test_a_schedule_that_leads_to_the_end_is_another_run_for_other_steps():
    together, apart = [[5, 9]], [[5], [9]]
    for schedule, expected in [
        ("constant", together),
        ("exponential", together),
        ("step", together),
        ("cosine", apart),
        ("one-cycle", apart),
    ]:
        runs = runs_of("--schedule", schedule, "--steps", "5", "9", "--seeds", "2")
        found = groups(runs, [run.training.steps for run in runs])
        assert [group.ends for group in found] == expected
        assert [len(group.readers) for group in found] == [2] * len(expected)


# --- which of them train together ----------------------------------------------------------------


def test_a_group_is_what_differs_in_numbers():
    runs = runs_of(
        *("--hidden", "5", "6", "--learning-rate", "0.1", "0.2", "--dropout", "0", "0.5"),
        *("--steps", "10", "25", "--seeds", "2"),
    )
    found = groups(runs, [run.training.steps for run in runs])
    assert [group.shape.network.hidden for group in found] == ["5", "6"]
    for group in found:
        assert len(group.readers) == 8  # Two rates, two dropouts, two seeds; not the steps.
        assert group.ends == [10, 25]
        for trained, readers in group.readers.items():
            assert sorted(readers.values()) == [10, 25]
            for index, steps in readers.items():
                assert runs[index].training.steps == steps
                assert runs[index].training.seed == trained.training.seed
                assert runs[index].training.learning_rate == trained.training.learning_rate
    assert len({index for group in found for r in group.readers.values() for index in r}) == 32


@pytest.mark.parametrize("flag", ["--batch-size 5 6", "--optimizer sgd adam", "--norm none layer"])
def test_another_shape_is_another_group(flag):
    runs = runs_of(*flag.split())
    assert len(groups(runs, [9, 9])) == 2


def test_lockstep_is_chosen_by_what_was_measured():
    assert choose_lockstep("gpu", 20) == 20
    assert choose_lockstep("cpu", 20) == 1


# --- what they come to ---------------------------------------------------------------------------

SWEEP = [
    *("--hidden", "20", "10-10", "--dropout", "0", "0.3", "--optimizer", "momentum"),
    *("--learning-rate", "0.05", "--steps", "5", "15", "--eval-every", "10", "--seeds", "2"),
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The evaluations of some runs of the sweep, each trained alone, by index."""
    found, folder = {}, tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(figures, "curves", lambda *arguments: None)
        for index in (3, 6, 13):  # Of both seeds beyond the first epoch, whose order is the same.
            run = runs_of(*SWEEP)[index]
            hidden, dropout = run.network.hidden, str(run.network.dropout)
            steps, seed = str(run.training.steps), str(run.training.seed)
            arguments = ["--hidden", hidden, "--dropout", dropout, "--steps", steps, "--seed", seed]
            common = ["--optimizer", "momentum", "--learning-rate", "0.05", "--eval-every", "10"]
            assert main([*arguments, *common, "--out", str(folder / str(index))]) == 0
            found[index] = metrics(folder / str(index))
    return found


@pytest.mark.parametrize("lockstep", ["1", "3", "100"])
def test_a_run_of_a_sweep_is_the_run_alone(here, alone, lockstep):
    assert main([*SWEEP, "--lockstep", lockstep, "--out", "sweep"]) == 0
    config = read(here / "sweep" / "config.json")
    assert config["learning_rate"] == 0.05
    assert len(config["runs"]) == 16
    for index, expected in alone.items():
        values, found = config["runs"][index], metrics(here / "sweep", index)
        assert [r["step"] for r in found] == [r["step"] for r in expected]
        assert {r["seed"] for r in found} == {r["seed"] for r in expected} == {values["seed"]}
        for metric in METRICS:
            a, b = ([r[metric] for r in records[1:]] for records in (found, expected))
            np.testing.assert_allclose(a, b, rtol=2e-5, err_msg=f"{values} {metric}")
        for step in (0, -1):
            for metric in ("validation_loss", "test_loss"):
                a, b = found[step][metric], expected[step][metric]
                assert a is b is None or a == pytest.approx(b, rel=2e-5)

    rows = read(here / "sweep" / "summary.json")["rows"]
    assert len(rows) == 8
    assert rows == sorted(rows, key=lambda line: rank(line, judge(line)))
    for line in rows:
        assert line["seeds"] == [0, 1]
        indices = [
            i
            for i, values in enumerate(config["runs"])
            if all(line["config"][name] == v for name, v in values.items() if name != "seed")
        ]
        for metric in METRICS:
            best = DECLARED[metric.split("_")[1]].best
            records = [metrics(here / "sweep", i) for i in indices]
            seen = [[r[metric] for r in run if r[metric] is not None] for run in records]
            assert line[metric]["final"]["values"] == [values[-1] for values in seen]
            assert line[metric]["best"]["values"] == [best(values) for values in seen]


def test_a_group_is_compiled_once(here, monkeypatch):
    made = []
    original = assembly.make_program
    monkeypatch.setattr(
        assembly, "make_program", lambda *a, **k: made.append(original(*a, **k)) or made[-1]
    )
    rates = ["--learning-rate", "0.1", "0.2", "--l2", "0", "0.1", "--label-smoothing", "0", "0.1"]
    assert main([*rates, "--steps", "2", "--seeds", "2", "--out", "run"]) == 0
    assert len(made) == 1


DIVERGING = ["--optimizer", "sgd", "--steps", "20", "--eval-every", "10"]


@pytest.mark.parametrize("lockstep", ["1", "2"])
def test_a_run_that_diverges_leaves_the_others_alone(here, capsys, lockstep):
    arguments = [*DIVERGING, "--lockstep", lockstep]
    assert main([*arguments, "--learning-rate", "0.1", "1e30", "--out", "both"]) == 0
    output = capsys.readouterr()
    assert "* diverged, and not in the means: row 2, at step 2." in output.out
    assert "1 diverged" in output.err
    assert main([*arguments, "--learning-rate", "0.1", "--out", "one"]) == 0
    for a, b in zip(metrics(here / "both"), metrics(here / "one"), strict=True):
        for metric in METRICS:
            assert a[metric] is b[metric] is None or a[metric] == pytest.approx(b[metric], rel=2e-5)
    bad = metrics(here / "both", 1)
    assert [r["step"] for r in bad] == [0, 10, 20]
    assert bad[0]["validation_loss"] is not None
    assert all(r[metric] is None for r in bad[1:] for metric in METRICS)
    good, worst = read(here / "both" / "summary.json")["rows"]
    assert good["diverged"] == [None]
    assert worst["diverged"] == [2]
    assert worst["validation_loss"]["final"] == {"mean": None, "std": None, "values": [None]}


def test_a_sweep_of_which_every_run_diverges_ends_with_status_1(here, capsys):
    arguments = [*DIVERGING, "--learning-rate", "1e30", "1e31", "--hidden", "5", "6"]
    assert main([*arguments, "--out", "run"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: all 4 runs diverged")
    assert len(read(here / "run" / "summary.json")["rows"]) == 4


def test_the_first_examples_alone(here):
    arguments = ["--train-examples", "60", "--test-examples", "30", "--batch-size", "20"]
    assert main([*arguments, "--epochs", "2", "--eval-every", "1", "--out", "run"]) == 0
    records = metrics(here / "run")
    assert [record["step"] for record in records] == [0, 1, 2, 3, 4]  # (60 - 6) // 20 an epoch.
    accuracies = {name: records[-1][f"{name}_accuracy"] for name in ("validation", "test")}
    for name, count in (("validation", 6), ("test", 30)):
        assert accuracies[name] * count == pytest.approx(round(accuracies[name] * count))
    described = read(here / "run" / "summary.json")["dataset"]
    assert (described["train_examples"], described["test_examples"]) == (60, 30)


def test_each_fold_is_held_out_once(here):
    assert main(["--folds", "3", "--steps", "4", "--eval-every", "2", "--out", "run"]) == 0
    (row,) = read(here / "run" / "summary.json")["rows"]
    assert (row["seeds"], row["folds"]) == ([0, 0, 0], [0, 1, 2])
    assert len(set(row["validation_loss"]["final"]["values"])) == 3
    for run in range(3):  # Each alone is a run that holds the same images out.
        steps = [record["step"] for record in metrics(here / "run", run)]
        assert steps == [0, 2, 4]
    assert main(["--validation", "479", "--steps", "4", "--eval-every", "2", "--out", "one"]) == 0
    last = metrics(here / "one")[-1]  # 1437 / 3 = 479: the last fold.
    for metric in METRICS:
        assert metrics(here / "run", 2)[-1][metric] == pytest.approx(last[metric], rel=2e-5)


def test_a_run_that_stops_early_is_marked(here, capsys):
    arguments = ["--learning-rate", "0.03", "1e-30", "--patience", "2", "--eval-every", "5"]
    assert main([*arguments, "--steps", "40", "50", "--out", "run"]) == 0
    said = " ".join(capsys.readouterr().out.split())  # The note is wrapped.
    assert "* stopped early, without a new lowest validation loss: row 1, at step" in said
    assert "; row 3, at step 10; row 4, at step 10." in said
    rows = read(here / "run" / "summary.json")["rows"]
    stopped = {row["config"]["learning_rate"]: row["stopped"] for row in rows}
    assert stopped[1e-30] == [10]
    for run in (2, 3):  # 1e-30 for 40 and for 50 steps.
        records = metrics(here / "run", run)
        assert [record["step"] for record in records] == [0, 5, 10]
        assert [record["test_loss"] is None for record in records] == [True, True, False]


# --- what a person sees --------------------------------------------------------------------------


def record(step, loss, accuracy):
    values = dict(zip(METRICS, (loss / 2, accuracy, loss, accuracy), strict=True))
    return {"step": step, "seconds": 1.0, **values}


def results(count):
    """Configurations of two seeds, the first the best."""
    found = []
    for i in range(count):
        runs = [[record(s, 1 + i + seed, 0.9 - 0.05 * i) for s in (0, 10)] for seed in (0, 1)]
        config = {"hidden": str(i), "learning_rate": 0.001 * (i + 1), "l2": 0.0}
        found.append((row_of(config, [0, 1], 17, runs), runs))
    return found


def test_the_table_has_a_row_for_each_configuration_and_fits(capsys):
    rows = [row for row, _ in results(3)]
    rows.append(
        row_of(
            rows[0]["config"] | {"hidden": "9"},
            [0, 1],
            17,
            [[record(0, 1, 0)]] * 2,
            diverged=[4, 7],
        )
    )
    summary = {"dataset": {"name": "digits", "description": "digits"}, "rows": rows}
    console = Console(width=80, record=True)
    console.print(tables.table(summary))
    text = console.export_text()
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines]
    assert ["1", "0", "0.001", "1.5000", "±", "0.7071", "0.9000", "±", "0.0000"] in [
        row[:9] for row in rows
    ]
    assert ["4*", "9", "0.001", "-", "-", "-"] in rows
    assert "l2" not in text
    assert "row 4, 2 of 2 runs at step 4 to 7" in text
    assert "…" not in text


@pytest.mark.parametrize("count", [3, 10])
def test_the_figure_shows_the_best_eight(tmp_path, drawn, count):
    figures.bands(results(count), tmp_path / "curves.png", "mlp", "note.")
    (figure,) = drawn
    shown = min(count, 8)
    assert ("best 8 of 10" in figure.get_suptitle()) == (count == 10)
    assert figure.subfigs[0].legends[0].get_title().get_text() == (
        "note. Bands: ± standard deviation over the runs."
    )
    labels = [text.get_text() for text in figure.subfigs[0].legends[0].get_texts()]
    assert labels == [f"hidden {i}, learning-rate {0.001 * (i + 1):g}" for i in range(shown)]
    loss, _, _ = figure.axes
    lines = loss.get_lines()
    styles = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines}
    assert len(lines) == len(styles) == len(loss.collections) == shown
    np.testing.assert_allclose(lines[1].get_ydata(), [2.5, 2.5])
    heights = loss.collections[1].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([heights.min(), heights.max()], [2.5 - 0.5**0.5, 2.5 + 0.5**0.5])


def test_progress_says_which_group_runs(capsys):
    console = Console(width=100, record=True)
    with Progress(30, console) as progress:
        progress.begin("group 1/2", 2, 10)
        progress.advance(10, 5.0)
        diverged = {**record(10, 1.0, 0.5), **dict.fromkeys(METRICS), "run": 1}
        progress.evaluated([{**record(10, 1.0, 0.5), "run": 0}, diverged])
        progress.begin("group 2/2", 1, 10)
        progress.advance(10, 5.0)
        assert progress._bar.tasks[0].completed == 30
    assert console.export_text().splitlines() == [
        "group 1/2  step 10/10 of 2 runs  validation loss 1 to 1, accuracy 0.5000 to 0.5000  "
        "1 diverged  1.0 s"
    ]


def test_on_a_terminal_progress_says_where_the_runs_are():
    console = Console(width=80, record=True, force_terminal=True)
    with Progress(90, console, 9) as progress:
        progress.begin("group 1/3", 2, 10)
        progress.advance(10, 5.0)
        bad = {**record(10, 1.0, 0.5), **dict.fromkeys(METRICS), "run": 1}
        progress.evaluated([{**record(10, 1.0, 0.5), "run": 0}, bad])
        progress.begin("group 2/3", 3, 10)
        progress.advance(4, 5678.0)
        several = [{**record(4, 1.0 + run, 0.5 + run / 10), "run": run} for run in (2, 3, 4)]
        progress.evaluated(several)
    lines = console.export_text().splitlines()
    bar, where, metrics = lines[-3:]
    assert max(map(len, lines)) <= 80
    assert bar.startswith("32/90 steps ")
    assert bar.endswith("5,678 steps/s")
    assert where == ("runs: 3 in training (group 2/3, step 4/10), 2 done, 4 waiting, 1 diverged")
    assert metrics == "validation loss 3 to 5, accuracy 0.7000 to 0.9000"
