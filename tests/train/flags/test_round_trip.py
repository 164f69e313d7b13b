"""Flags of any value: parsed, stored as JSON, made words again, and parsed again."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import few
from train.flags import given as stored
from train.flags.config import MlpRun, flags, replaced
from train.flags.constraints import option
from train.run_directory.stored_config import check_flags, configuration
from train.training.command import parse


def real(low, high):
    return st.floats(low, high, width=32).map(float)


# Flags that a sweep varies.
VARIED = {
    "hidden": st.sampled_from(("100", "5-6", "3x10", "2x7-4")),
    "dropout": real(0.0, 0.875),
    "norm": st.sampled_from(("none", "batch", "layer", "rms")),
    "learning_rate": real(2.0**-40, 2.0**99),
    "l2": real(0.0, 2.0**99),
    "clip_norm": real(2.0**-40, 2.0**99),
    "warmup_steps": st.integers(0, 2**31 - 1),
    "batch_size": st.integers(1, 2**31 - 1),
    "precision": st.sampled_from(("float32", "bfloat16")),
    "augment": st.sampled_from(("none", "flip", "shift-cutout")),
    "patience": st.integers(1, 2**31 - 1),
    "steps": st.integers(1, 2**31 - 1),
}

# Those that all runs share.
SHARED = {
    "seed": st.integers(0, 2**32 - 4),
    "seeds": st.integers(1, 3),
    "lockstep": st.one_of(st.just("auto"), st.integers(1, 2**31 - 1)),
    "eval_every": st.integers(1, 2**31 - 1),
    "train_examples": st.integers(1, 2**31 - 1),
    "folds": st.integers(2, 3),
    "test": st.one_of(real(0.125, 0.875), st.integers(1, 10**9).map(float)),
    "test_curve": st.just(True),
    "data_dir": st.sampled_from(("/data", "/some folder/with $signs")),
    "tensorboard": st.just(True),
}


@st.composite
def flags_given(draw):
    """All flags, two of them with several values."""
    given = draw(st.fixed_dictionaries({**VARIED, **SHARED}))
    for name in draw(st.lists(st.sampled_from(sorted(VARIED)), min_size=2, max_size=2)):
        given[name] = draw(st.lists(VARIED[name], min_size=1, max_size=3))
    return given


def words_of(given):
    found = []
    for name, value in given.items():
        values = value if isinstance(value, list) else [value]
        found += [option(name), *([] if value is True else map(str, values))]
    return found


@settings(few, max_examples=4)  # A command line of so many flags takes long to parse.
@given(flags_given())
def test_flags_come_back_from_what_is_stored(given):
    """Those of the command line, and those of each run."""
    sweep = parse(MlpRun, words_of(given), "prog", None)
    as_stored = json.loads(json.dumps(sweep.given))
    again = parse(MlpRun, stored.words(as_stored), "prog", None)
    assert again.given == as_stored == sweep.given
    assert again == sweep
    for name, value in given.items():
        one = value[0] if isinstance(value, list) and len(value) == 1 else value
        assert as_stored[name] == one

    config = json.loads(json.dumps(configuration(sweep.runs)))
    differing = config.pop("runs", [{}])
    assert len(differing) == len(sweep.runs)
    for run, values in zip(sweep.runs, differing, strict=True):
        found = {**config, **values}
        check_flags(found.items(), MlpRun)
        assert found == {name: v for name, v in flags(run).items() if name != "resume"}
        assert flags(replaced(MlpRun(), found)) == flags(run)
