"""What --dry-run makes of a few measured seconds, and prints."""

import types

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from train.engine import costs_shown, dry_run, trainer
from train.engine.dry_run import Expected
from train.flags.config import MlpRun, replaced
from train.flags.sweep import Group


def group_of(hidden, ends, **flags):
    """A group of two runs for each end."""
    shape = replaced(MlpRun(), {"hidden": hidden, **flags})
    runs = [replaced(shape, {"seed": seed}) for seed in (0, 1)]
    readers = {run: {2 * i + seed: end for i, end in enumerate(ends)} for seed, run in
               enumerate(runs)}  # fmt: skip
    return Group(shape, readers)


class Trainer:
    """One whose state is 40 bytes a run."""

    working_bytes = 1000
    like = trainer.Trainer.like

    def __init__(self, runs):
        self.state = jnp.zeros((runs, 10), jnp.float32)

    def forget(self):
        pass


@pytest.fixture
def measured(monkeypatch):
    """A segment takes a second, an evaluation two, that at the end of a run three more."""
    made = []

    def measure(trainer, length):
        made.append(length)
        return dry_run._Measured(1.0, 2.0, 3.0, compilation=10.0, others=100.0)

    monkeypatch.setattr(dry_run, "_measured", measure)
    return made


@pytest.mark.parametrize(
    ("ends", "segments", "evaluations", "lengths"),
    [([100], 20, 10, 1), ([40, 100], 20, 10, 1), ([101], 20.2, 11, 2), ([4], 1, 1, 1)],
)
def test_a_turn_is_segments_evaluations_and_ends(measured, ends, segments, evaluations, lengths):
    group = group_of("8", ends, eval_every=10, batch_size=6)
    seen = []

    def trainer_of(group):
        seen.append(group)
        return Trainer(len(group.readers))

    found = dry_run.expected(group, trainer_of, 1, devices=1)
    assert measured == [min(5, *ends)]
    assert found.turn == pytest.approx(segments + 2 * evaluations + 3 * len(ends))
    assert found.compilation == 100 + 10 * lengths
    assert found.programs == 3 + lengths
    assert (found.runs, found.steps, found.lockstep) == (2, max(ends), 1)
    # The state, and the examples of ten steps at a time; what is beside it does not grow.
    assert found.run_bytes == 40 + 4 * min(10, *ends) * 6
    assert found.other_bytes == 1000
    assert len(seen[0].readers) == 1  # As many as train at a time.
    assert found.seconds(1) == found.compilation + 2 * found.turn


@pytest.mark.parametrize(
    ("enough", "steps", "expected"),
    [
        (1.0, 100_000, [5]),  # A segment of a second is not dominated by its beginning and end.
        (1.001, 100_000, [5, 50, 100]),  # The last is that from one evaluation to the next.
        (1.001, 1000, [5]),  # 50 steps take 30 s to measure three times: over a tenth of 200 s.
    ],
)
def test_short_segments_are_made_longer_while_there_is_time(
    monkeypatch, measured, enough, steps, expected
):
    monkeypatch.setattr(dry_run, "_LONG_ENOUGH", enough)
    group = group_of("8", [steps], eval_every=100)
    dry_run.expected(group, lambda group: Trainer(1), 1, 1)
    assert measured == expected


GROUPS = [group_of("8", [100]), group_of("16", [100])]
FOUND = [
    Expected(4, 100, 1, 4, 30.0, 15.0, 2_000_000, 1_000_000),
    Expected(2, 100, 1, 5, 30.0, 60.0, 500_000, 4_000_000, measured=False),
]


def test_the_table_adds_times_and_programs_but_not_memory():
    """The groups train one after the other: what is needed at once is the largest."""
    console = Console(width=100, record=True)
    console.print(costs_shown.table(GROUPS, FOUND, 2))
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert "hidden 8 4 100 1 4 2 MB 10 MB 1.0 min" in lines
    assert "hidden 16 2 100 1 5 500 kB 9 MB 1.5 min *" in lines
    assert "all 6 9 10 MB 2.5 min" in lines


def test_what_is_said_above_the_table(monkeypatch, capsys):
    monkeypatch.setattr(costs_shown, "free_memory", lambda: 3_000_000_000)
    console = types.SimpleNamespace(print=lambda table: None)
    costs_shown.show(GROUPS, FOUND, 2, console)
    here = " on each device" if jax.devices()[0].platform != "cpu" else ""
    assert capsys.readouterr().out.splitlines() == [
        "time    about 2.5 min on 2 devices; 1.0 min of it to compile, once",
        f"memory  10 MB; 3 GB are free{here}",
        "runs    6 in 2 groups",
        "",
        "* Estimated from the measured group whose runs are closest in size.",
        "",
        "More devices: a run trains on one device, and no group has more than 4.",
        "More than 4 devices save no time; compiling takes 1.0 min on any number of them.",
    ]
    costs_shown.show(GROUPS[:1], FOUND[:1], 2, console, "batch")
    said = capsys.readouterr().out
    assert said.startswith("time    about 1.5 min on 2 devices; 30.0 s of it to compile, once\n")
    assert "memory  9 MB; " in said  # Of a batch that is divided, each run is there once.
    assert said.endswith("how long that takes was not measured.\n")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.96, "1.0 s"),
        (59.9, "59.9 s"),
        (60, "1.0 min"),
        (3599, "60.0 min"),
        (5400, "1 h 30 min"),
        (86399, "24 h 0 min"),
        (86400, "1 d 0 h"),
        (176_400, "2 d 1 h"),
    ],
)
def test_a_time_changes_its_unit_where_the_next_one_begins(seconds, words):
    assert costs_shown.duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (1000, "1 kB"), (999_999, "1e+03 kB"), (1e6, "1 MB"), (1e9, "1 GB")],
)
def test_an_amount_changes_its_unit_where_the_next_one_begins(count, words):
    assert costs_shown.amount(count) == words
