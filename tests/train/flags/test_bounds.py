"""Where what a flag allows ends: the last value that it takes, and the first that it refuses."""

import math

import pytest

from train.custom_network import run_kind
from train.errors import ConfigError
from train.flags import sweep
from train.flags.config import Machines, MlpRun, replaced
from train.flags.constraints import check_machines, check_value
from train.flags.declaration import augmentations, hidden_widths
from train.flags.sweep import drawn, shape_of
from train.training.command import parse

MOST = 2**31 - 1
HUGE, LITTLE = 3.4e38, 1e-45  # The largest and the smallest number of float32.
BELOW_1 = 0.99999997  # Of float32 the last number below 1.

BOUNDS = [
    ("steps", 1, 0),
    ("steps", MOST, MOST + 1),
    ("warmup_steps", 0, -1),
    ("seed", 0, -1),
    ("seed", 2**32 - 1, 2**32),
    ("folds", 2, 1),
    ("folds", 1000, 1001),
    ("seeds", 1, 0),
    ("seeds", 10_000, 10_001),
    ("lockstep", 1, 0),
    ("lockstep", MOST, MOST + 1),
    ("search", "random:99999", "random:100000"),
    ("search", "random:1", "random:0"),
    ("image_size", "9999x1", "10000x1"),
    ("image_size", "1", "0"),
    ("coordinator", "a:99999", "a:100000"),
    ("augment", "shift-flip", "flip-flip"),
    ("augment", "cutout", "cutout-"),
    ("hidden", "1x5", "0x5"),
    ("hidden", "1-1000000", "1-0"),
    ("learning_rate", LITTLE, 0.0),
    ("learning_rate", HUGE, math.inf),
    ("learning_rate", HUGE, 3.5e38),
    ("l2", 0.0, -LITTLE),
    ("l2", HUGE, math.inf),
    ("negative_slope", -HUGE, -math.inf),
    ("negative_slope", HUGE, math.inf),
    ("dropout", 0.0, -LITTLE),
    ("dropout", BELOW_1, 0.99999999),
    ("decay", 1.0, 1.0001),
    ("decay", LITTLE, 0.0),
    ("label_smoothing", 0.0, -LITTLE),
    ("label_smoothing", 1.0, 1.0001),
    ("validation", 0.0, -LITTLE),
    ("validation", BELOW_1, 1.25),
    ("validation", 1.0, 1.25),
    ("validation", 2.0**31 - 128, 2.0**31),
    ("test", LITTLE, 0.0),
    ("test", BELOW_1, 1.25),
    ("test", 1.0, 1.25),
    ("test", 2.0**31 - 128, 2.0**31),
]


@pytest.mark.parametrize(("name", "last", "refused"), BOUNDS)
def test_a_flag_takes_its_last_value_and_no_other(name, last, refused):
    check_value(name, last)
    with pytest.raises(ConfigError, match="must be"):
        check_value(name, refused)


@pytest.mark.parametrize(
    ("text", "widths"),
    [
        ("1000000", (1_000_000,)), ("1000001", ()), ("1", (1,)), ("0", ()),
        ("1000x3", (3,) * 1000), ("999x3-4", (3,) * 999 + (4,)), ("1000x3-4", ()),
    ],
)  # fmt: skip
def test_hidden_layers_end_at_a_thousand_of_a_million(text, widths):
    assert hidden_widths(text) == widths


def test_augmentations_are_made_in_one_order():
    assert augmentations("cutout-shift-flip") == ("flip", "shift", "cutout")
    assert augmentations("cutout-flip") == augmentations("flip-cutout") == ("flip", "cutout")
    assert augmentations("none") == ()


@pytest.mark.parametrize(
    ("machines", "dry_run", "line"),
    [
        (Machines(), True, None),
        (Machines(True), False, None),
        (Machines(True), True, "--dry-run: measures on this machine"),
        (Machines(True, "a:1", 2, 0), False, None),
        (Machines(True, "a:1", 2, 1), False, None),
        (Machines(True, "a:1", 2, 2), False, "--process-id 2: must be below 2"),
        (Machines(True, "a:1", 2), False, "--process-id: is missing"),
        (Machines(True, "a:1", None, 0), False, "--processes: is missing"),
        (Machines(True, None, 2, 0), False, "--coordinator: is missing"),
        (Machines(True, "a:1"), False, "--processes: is missing"),
        (Machines(False, "a:1", 2, 0), False, "--coordinator a:1: is used with --distributed"),
        (Machines(False, None, None, 0), False, "--process-id 0: is used with --distributed"),
    ],
)
def test_flags_of_several_machines_are_given_together(machines, dry_run, line):
    if line is None:
        check_machines(machines, dry_run)
    else:
        with pytest.raises(ConfigError) as error:
            check_machines(machines, dry_run)
        assert str(error.value).startswith(line)


def test_a_draw_does_not_leave_its_range_by_rounding():
    """Of four digits; here there is none of them between the ends."""
    for several in ((0.123456, 0.123459), (0.123441, 0.123444)):
        for _, value in drawn({"seed": (3,), "learning_rate": several}, 20):
            assert several[0] <= value <= several[1]


def test_a_sweep_ends_at_so_many_runs(monkeypatch):
    words = ["--seeds", "2", "--folds", "3", "--l2", "0", "0.1"]
    monkeypatch.setattr(sweep, "MOST_RUNS", 12)
    assert len(parse(MlpRun, words, "prog", None).runs) == 12
    monkeypatch.setattr(sweep, "MOST_RUNS", 11)
    with pytest.raises(ConfigError, match="the flags make 12 runs: must be at most 11"):
        parse(MlpRun, words, "prog", None)
    monkeypatch.setattr(sweep, "MOST_RUNS", 4)
    assert len(parse(MlpRun, ["--seeds", "2", "--l2", "0", "0.1"], "prog", None).runs) == 4
    monkeypatch.setattr(sweep, "MOST_RUNS", 6)
    # Of a search as many as are drawn, whatever the values.
    searched = [*words[:4], "--learning-rate", "0.1", "0.2", "0.3", "--search", "random:1"]
    assert len(parse(MlpRun, searched, "prog", None).runs) == 6


def own(classes, *, rate: float | None = None):
    """A network of one's own."""


def test_a_number_and_none_are_two_shapes_where_none_means_something():
    kind = run_kind(own).kind
    none, one, other = (replaced(kind(), {"rate": rate}) for rate in (None, 0.1, 0.2))
    assert shape_of(one) == shape_of(other) != shape_of(none)
    plain, clipped = (replaced(MlpRun(), {"clip_norm": norm}) for norm in (None, 0.5))
    assert shape_of(plain) == shape_of(clipped)  # Without a limit, clipping changes nothing.
