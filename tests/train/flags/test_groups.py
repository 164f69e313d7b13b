"""Which runs a sweep has, in which order, and which of them train together."""

import pytest

from train.errors import ConfigError
from train.flags.config import MlpRun, flags
from train.flags.sweep import MOST_RUNS, TO_THE_END, drawn, groups, shape_of, varying
from train.training.command import parse


def runs_of(words):
    return parse(MlpRun, words.split(), "prog", None).runs


def values_of(runs, *names):
    return [tuple(flags(run)[name] for name in names) for run in runs]


def test_runs_are_the_product_of_values_folds_and_seeds():
    """The seeds follow one another, then the folds, then the values in their order."""
    runs = runs_of("--hidden 5 6 --folds 2 --seeds 2 --seed 3 --l2 0.1 0.1 0")
    assert values_of(runs, "hidden", "l2", "fold", "seed") == [
        (hidden, l2, fold, seed)
        for hidden in ("5", "6") for l2 in (0.1, 0.0) for fold in (0, 1) for seed in (3, 4)
    ]  # fmt: skip
    assert values_of(runs_of("--seed 4294967295"), "seed", "fold") == [(2**32 - 1, None)]
    with pytest.raises(ConfigError, match="--seed 4294967296: must be"):
        runs_of("--seed 4294967295 --seeds 2")
    with pytest.raises(ConfigError, match="--l2: needs a value"):
        runs_of("--l2")
    with pytest.raises(ConfigError, match="--l2 -1"):
        runs_of("--l2 0 -1")
    assert MOST_RUNS == 100_000


def test_a_flag_without_effect_makes_no_further_runs():
    runs = runs_of("--optimizer adam momentum --momentum 0.5 0.9")
    assert values_of(runs, "optimizer", "momentum") == [
        ("adam", None), ("momentum", 0.5), ("momentum", 0.9),
    ]  # fmt: skip


def test_a_number_that_a_run_does_not_use_is_none_in_its_shape():
    """The stand-in of one that it uses is another, so that the two are not of one shape."""
    runs = runs_of("--activation relu elu --optimizer momentum sgd --alpha 0.5")
    shapes = [shape_of(run) for run in runs]
    assert values_of(shapes, "alpha", "momentum", "learning_rate", "seed") == [
        (None, 0.0, 0.0, None), (None, None, 0.0, None),
        (0.0, 0.0, 0.0, None), (0.0, None, 0.0, None),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["constant", "exponential", "step", "cosine", "one-cycle"])
def test_runs_of_other_lengths_are_one_run_unless_its_schedule_has_an_end(schedule):
    assert TO_THE_END == ("cosine", "one-cycle")
    runs = runs_of(f"--schedule {schedule} --steps 9 5 --learning-rate 0.1 0.2 --seeds 2")
    found = groups(runs, [run.training.steps for run in runs])
    lengths = [[5, 9]] if schedule not in TO_THE_END else [[9], [5]]
    assert [group.ends for group in found] == lengths
    for group in found:
        assert len(group.readers) == 4  # Two rates, two seeds.
        for trained, readers in group.readers.items():
            assert sorted(readers.values()) == group.ends
            for index, last in readers.items():
                assert runs[index].training.steps == last
                assert values_of([runs[index]], "seed", "learning_rate") == values_of(
                    [trained], "seed", "learning_rate"
                )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--l2 0 0.1 --dropout 0 0.5 --learning-rate 0.1 0.2 --seeds 2", 1),
        ("--activation elu --alpha 0.5 1", 1),
        ("--activation elu relu", 2),
        ("--hidden 5 6", 2),
        ("--batch-size 5 6", 2),
        ("--epochs 5 6", 1),
        ("--folds 3", 3),
        ("--clip-norm 1 2 --label-smoothing 0 0.1", 1),
        ("--schedule step --decay 0.1 0.2", 1),
        ("--schedule step --decay-epochs 1 2", 2),
    ],
)
def test_runs_that_differ_in_numbers_are_one_group(words, expected):
    runs = runs_of(words)
    found = groups(runs, [9] * len(runs))
    assert len(found) == expected
    indices = [index for group in found for readers in group.readers.values() for index in readers]
    assert sorted(indices) == list(range(len(runs)))
    assert all(group.shape in runs for group in found)


def test_what_varies():
    assert varying(runs_of("--l2 0 0.1 --hidden 5 6 --seeds 2")) == ["hidden", "l2", "seed"]
    assert varying(runs_of("--l2 0.1")) == []


@pytest.mark.parametrize(
    ("name", "several", "allowed"),
    [
        ("l2", (0.0, 0.1), False),
        ("l2", (0.1, 0.0), False),
        ("l2", (1e-9, 0.1), True),
        ("l2", (0.0, 0.1, 0.2), True),
        ("dropout", (0.0, 0.5), True),
        ("decay", (0.5, 1.0), False),
        ("decay", (0.5, 0.999), True),
        ("decay", (0.5, 0.9, 1.0), True),
    ],
)
def test_a_range_of_rates_has_both_ends_where_its_logarithm_is(name, several, allowed):
    values = {"seed": (0,), name: several}
    if allowed:
        assert len(list(drawn(values, 3))) == 3
    else:
        with pytest.raises(ConfigError, match="a range of --search is"):
            next(drawn(values, 3))
