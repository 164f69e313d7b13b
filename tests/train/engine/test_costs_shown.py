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
    """A segment takes four seconds, an evaluation two, that at the end of a run three more."""
    made = []

    def measure(trainer, length):
        made.append(length)
        return dry_run._Measured(4.0, 2.0, 3.0, compilation=10.0, others=100.0)

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
    assert found.turn == pytest.approx(4 * segments + 2 * evaluations + 3 * len(ends))
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
        (4.0, 100_000, [5]),  # A segment so long is not dominated by its beginning and end.
        (4.001, 100_000, [5, 50, 100]),  # The last is that from one evaluation to the next.
        (4.001, 1000, [5]),  # 50 steps take 120 s to measure three times: over a tenth of 800 s.
    ],
)
def test_short_segments_are_made_longer_while_there_is_time(
    monkeypatch, measured, enough, steps, expected
):
    monkeypatch.setattr(dry_run, "_LONG_ENOUGH", enough)
    group = group_of("8", [steps], eval_every=100)
    dry_run.expected(group, lambda group: Trainer(1), 1, 1)
    assert measured == expected


@pytest.mark.parametrize(("seconds", "expected"), [(0.2, [5, 50]), (0.9, [5])])
def test_a_segment_is_long_enough_in_less_than_a_second(monkeypatch, seconds, expected):
    lengths = []

    def measure(trainer, length):
        lengths.append(length)
        return dry_run._Measured(seconds, 0.0, 0.0, 0.0, 0.0)

    monkeypatch.setattr(dry_run, "_measured", measure)
    dry_run.expected(group_of("8", [50], eval_every=50), lambda group: Trainer(1), 1, 1)
    assert lengths == expected


def test_measuring_again_takes_as_long_as_it_took_once(monkeypatch):
    """Each length takes 8 s to compile; three are less than a tenth of 300 s, four are not."""
    now, lengths = [100.0], []

    def measure(trainer, length):
        lengths.append(length)
        now[0] += 8.0
        return dry_run._Measured(0.001 * length, 0.0, 0.0, 0.0, 0.0)

    monkeypatch.setattr(dry_run, "_measured", measure)
    monkeypatch.setattr(dry_run.time, "perf_counter", lambda: now[0])
    group = group_of("8", [300_000], eval_every=1000)
    dry_run.expected(group, lambda group: Trainer(1), 1, 1)
    assert lengths == [5, 50, 500]


def scripted(monkeypatch, evaluations):
    """A trainer whose evaluations take so long, the steps before them so much of it."""
    now = [1000.0]
    monkeypatch.setattr(dry_run.time, "perf_counter", lambda: now[0])

    class Scripted:
        seconds_in_steps = 0.0

        def train(self, ends, advance):
            assert ends == [15]
            for seconds, in_steps in evaluations:
                now[0] += 1.0
                advance(5, 1.0)
                yield []  # A signal may be noticed here; nothing was evaluated.
                now[0] += seconds - 1.0
                self.seconds_in_steps += in_steps
                yield [{}]

    return Scripted()


def test_what_is_beside_the_steps_is_told_apart(monkeypatch):
    trainer = scripted(monkeypatch, [(107.0, 0.0), (14.0, 2.0), (5.0, 1.0), (8.0, 1.5)])
    assert dry_run._measured(trainer, 5) == dry_run._Measured(
        segment=1.0, evaluation=4.0, end=2.5, compilation=8.0, others=103.0
    )
    # A loss that is not finite ends it after the first segment.
    trainer = scripted(monkeypatch, [(107.0, 0.0), (14.0, 2.0)])
    assert dry_run._measured(trainer, 5) == dry_run._Measured(
        segment=2.0, evaluation=12.0, end=0.0, compilation=0.0, others=95.0
    )


def test_an_estimate_grows_with_the_steps_the_batch_and_the_parameters():
    groups = [
        group_of("8", [100], batch_size=10),
        group_of("16", [200], batch_size=20),
        group_of("4", [50], batch_size=5),
    ]
    of = Expected(1, 100, 1, 4, 30.0, 50.0, run_bytes=30, other_bytes=7)
    larger = dry_run._estimated(1, groups, [40, 80, 5], {0: of})
    assert larger == Expected(2, 200, 1, 4, 30.0, 200.0, 70, 7, measured=False)
    smaller = dry_run._estimated(2, groups, [40, 80, 5], {0: of})
    assert smaller == Expected(2, 50, 1, 4, 30.0, 25.0, 0, 7, measured=False)
    assert dry_run._estimated(0, groups, [40, 80, 5], {0: of}) is of
    # The nearest by the ratio of sizes: 80 is twice 40, and 16 times 5.
    several = {0: of, 2: of._replace(other_bytes=9)}
    assert dry_run._estimated(1, groups, [40, 80, 5], several).other_bytes == 7


@pytest.mark.parametrize(
    "larger",
    [
        group_of("16", [100], batch_size=10),
        group_of("8", [101], batch_size=10),
        group_of("8", [100], batch_size=11),
        Group(
            group_of("8", [100], batch_size=10).shape,
            {replaced(MlpRun(), {"seed": seed}): {seed: 100} for seed in range(3)},
        ),
    ],
)
def test_the_largest_group_is_measured_first(monkeypatch, larger):
    measured = []

    def measure(group, *others):
        measured.append(group)
        return FOUND[0]

    monkeypatch.setattr(dry_run, "expected", measure)
    smaller = group_of("8", [100], batch_size=10)
    dry_run.all_expected(
        [smaller, larger], None, lambda group: int(group.shape.network.hidden), None, 1
    )
    assert measured == [larger, smaller]


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


def test_the_table_is_as_narrow_as_it_can_be():
    """One group is all there is; a line under the headings parts them from it."""
    console = Console(width=100, record=True)
    console.print(costs_shown.table(GROUPS[:1], FOUND[:1], 2))
    assert console.export_text().splitlines() == [
        "                                        memory  memory         ",
        "group  runs  steps  lockstep  programs   a run  in all     time",
        "─" * 63,
        "all       4    100         1         4    2 MB   10 MB  1.0 min",
    ]


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
    costs_shown.show(GROUPS[:1], FOUND[:1], 1, console)
    assert " on 1 device; 30.0 s of it " in capsys.readouterr().out
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
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_501, "1 MB"),
        (999_499_000, "999 MB"),
        (999_501_000, "1 GB"),
        (5e12, "5 TB"),
    ],
)
def test_an_amount_changes_its_unit_where_the_next_one_begins(count, words):
    assert costs_shown.amount(count) == words
