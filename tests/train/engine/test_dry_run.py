import os
import re

import pytest

from train import mlp
from train.engine import costs_shown, dry_run
from train.engine.dry_run import Expected
from train.flags.config import MlpRun, replaced
from train.flags.sweep import Group


def test_runs_take_turns_on_the_devices():
    expected = Expected(
        runs=10, steps=9, lockstep=2, programs=4, compilation=3.0, turn=5.0,
        run_bytes=7, other_bytes=100,
    )  # fmt: skip
    assert expected.seconds(1) == 3 + 5 * 5  # Five pairs.
    assert expected.seconds(2) == 3 + 3 * 5  # Five runs each: two pairs and one alone.
    assert expected.seconds(10) == expected.seconds(64) == 3 + 5
    assert expected.bytes(2) == 2 * 100 + 10 * 7


@pytest.mark.slow
def test_nothing_is_trained_or_written(here, capsys):
    words = "--hidden 8 16-8 --learning-rate 0.01 0.1 --steps 20 30 --eval-every 10 --dry-run"
    assert mlp.main(words.split()) == 0
    assert os.listdir(here) == []
    output = capsys.readouterr().out
    lines = output.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["time", "memory", "runs"]
    assert " on 4 devices; " in lines[0]
    assert lines[2] == "runs    4 in 2 groups"
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines if re.match("(hidden|all)", line)]
    learned = {"8": 65 * 8 + 9 * 10, "16-8": 65 * 16 + 17 * 8 + 9 * 10}
    for row, (hidden, parameters) in zip(rows[:2], learned.items(), strict=True):
        assert row[1] == hidden
        # Two learning rates, each one run of 30 steps that is read after 20 too.
        assert (row[2], row[3], row[4]) == ("2", "30", "1")
        # Adam's moments are two arrays more; a step takes 200 examples of four bytes.
        kilobytes = (3 * parameters * 4 + 10 * 200 * 4) / 1000
        assert float(row[6]) == pytest.approx(kilobytes, rel=0.01)
    assert rows[-1][:2] == ["all", "4"]
    assert "no group has more than 2." in output
    assert "512" not in output


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_best_parameters_are_memory_of_a_run_too(here, capsys, norm):
    """With the running statistics that belong to them."""
    words = f"--hidden 300 --norm {norm} --steps 4 --eval-every 2 --optimizer sgd --dry-run".split()
    found = []
    for keep in ("last", "best"):
        assert mlp.main([*words, "--keep", keep]) == 0
        row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("all"))
        assert row.split()[6] == "kB"
        found.append(float(row.split()[5]))
    learned = 65 * 300 + 301 * 10 + {"none": 0, "batch": 4 * 300}[norm]
    assert found[1] - found[0] == pytest.approx(learned * 4 / 1000, abs=1.1)  # Of three figures.


@pytest.mark.slow
def test_it_is_no_flag_of_the_runs(here):
    words = ["--hidden", "4", "--steps", "2", "--eval-every", "1", "--out", "run"]
    assert mlp.main(words) == 0
    before = {path: path.read_bytes() for path in here.rglob("*.json*")}
    assert "dry_run" not in (here / "run" / "config.json").read_text()
    assert mlp.main(["--resume", "run", "--dry-run"]) == 0
    assert {path: path.read_bytes() for path in here.rglob("*.json*")} == before


@pytest.mark.slow
def test_a_loss_that_is_not_finite_takes_its_time_too(here, capsys):
    words = "--hidden 4 --steps 9 --initializer normal --initial-std 1e38 --dry-run"
    assert mlp.main(words.split()) == 0
    assert capsys.readouterr().out.startswith("time    about ")


def test_groups_are_estimated_once_measuring_has_taken_its_share(monkeypatch):
    """The largest is measured first; a group without time for it takes after its nearest."""
    runs = [
        replaced(MlpRun(), {"hidden": str(n), "steps": steps, "batch_size": batch})
        for n, steps, batch in ((8, 100, 10), (9, 200, 20), (64, 400, 10))
    ]
    groups = [Group(run, {run: {0: run.training.steps}}) for run in runs]
    now, measured = [0.0], []

    def measure(group, *others):
        measured.append(group.shape.network.hidden)
        now[0] += 20.0
        size = int(group.shape.network.hidden)
        return Expected(1, group.ends[-1], 1, 4, 3.0, group.ends[-1] / 2, size + 5, 100)

    monkeypatch.setattr(dry_run, "expected", measure)
    monkeypatch.setattr(dry_run.time, "perf_counter", lambda: now[0])

    def all_expected():
        return dry_run.all_expected(groups, None, lambda g: int(g.shape.network.hidden), None, 1)

    found = all_expected()
    # Twice 20 s of measuring; 203 + 203 + 53 s predicted. A third would be over a tenth of that.
    assert measured == ["64", "9"]
    assert [row.measured for row in found] == [False, True, True]
    assert [row.turn for row in found] == [50.0, 100.0, 200.0]  # Half a second a step.
    assert [row.run_bytes for row in found] == [13, 14, 69]
    monkeypatch.setattr(
        dry_run, "_SHARE", 0.2
    )  # Of 203 + 103 + 53 s: 40 s, and 20 for one more, are less.
    measured.clear()
    assert all(row.measured for row in all_expected())
    assert measured == ["64", "9", "8"]


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ((1,), "there is one run.\nMore than 1 device saves no time"),
        ((1, 1), "each group has one run.\nMore than 1 device saves no time"),
        ((1, 2), "no group has more than 2.\nMore than 2 devices save no time"),
    ],
)
def test_what_more_devices_would_change_is_said(runs, words):
    found = [Expected(n, 9, 1, 4, 3.0, 5.0, 7, 100) for n in runs]
    assert words in costs_shown._limits(found, 3.0, "runs")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59, "59.0 s"), (90, "1.5 min"), (3600, "1 h 0 min"), (100_000, "1 d 4 h")],
)
def test_durations(seconds, words):
    assert costs_shown.duration(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(999, "999 B"), (90_100, "90.1 kB"), (2e9, "2 GB")])
def test_amounts(count, words):
    assert costs_shown.amount(count) == words
