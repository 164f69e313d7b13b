"""Tables of any results fit into 80 columns, and nothing of a number is cut off."""

import io
import re

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.properties import few
from train.report import tables
from train.run_directory.summary import ranked, row_of

# Flags with values of the length that people give, by name.
VALUES = {
    "learning_rate": st.sampled_from((0.001, 3e-05, 0.1, 1.0, 0.00316)),
    "hidden": st.sampled_from(("100", "500-100", "3x1000", "2000-1000-500-250")),
    "optimizer": st.sampled_from(("adam", "momentum", "adafactor")),
    "dropout": st.sampled_from((0.0, 0.1, 0.25)),
    "batch_size": st.sampled_from((1, 32, 4096)),
    "label_smoothing": st.sampled_from((0.0, 0.1)),
    "schedule": st.sampled_from(("constant", "one-cycle", "exponential")),
    "warmup_steps": st.sampled_from((0, 500, 10000)),
    "weight_decay": st.sampled_from((None, 0.01, 1e-05)),
}


@st.composite
def summaries(draw, most_flags=5):
    """Two to eight configurations of up to five flags, of one to three seeds."""
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=most_flags,
                          unique=True))  # fmt: skip
    configs = draw(
        st.lists(st.fixed_dictionaries({name: VALUES[name] for name in names}), min_size=2,
                 max_size=8, unique_by=str)
    )  # fmt: skip
    seeds = draw(st.integers(1, 3))
    size = draw(st.sampled_from((1.0, 0.01, 300.0, 2e19)))
    pairs = []
    for config in configs:
        values = draw(st.lists(st.floats(0, 1), min_size=seeds, max_size=seeds))
        runs = [
            [{"step": 9, **{f"{of}_{name}": value * (size if name == "loss" else 1.0)
             for of in ("train", "validation", "test") for name in ("loss", "accuracy")}}]
            for value in values
        ]  # fmt: skip
        diverged = draw(st.lists(st.sampled_from((None, None, 7)), min_size=seeds, max_size=seeds))
        row = row_of(config, list(range(seeds)), 17, runs, diverged=diverged)
        pairs.append((row, None))
    dataset = {"name": "digits", "description": "Noise."}
    return {"dataset": dataset, "rows": [row for row, _ in ranked(pairs)]}


def printed(summary, width):
    file = io.StringIO()
    Console(file=file, width=width).print(tables.table(summary))
    return file.getvalue()


@few
@given(summaries())
def test_a_table_of_up_to_five_flags_fits_into_80_columns(summary):
    text = printed(summary, 80)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    starts = [number for number, line in enumerate(lines) if re.match(r" ?\d+\*?( |$)", line)]
    assert len(starts) == len(summary["rows"])
    # The numbers at the end of a row are whole: each has its point, or is a dash.
    for number in starts:
        last = lines[number].split()[-1]
        assert re.fullmatch(r"-|\d+\.\d{3,4}(±\d+\.\d{3,4})?|\d\.\d{3,4}", last), lines[number]


@few
@given(summaries(most_flags=9))
def test_a_table_has_all_its_values_in_words(summary):
    """In a wide terminal each value stands there, whatever the number of flags."""
    rows, wide = summary["rows"], " ".join(printed(summary, 400).split())
    differing = [
        name for name in rows[0]["config"] if len({row["config"][name] for row in rows}) > 1
    ]
    for name in differing:
        heading = name.replace("_", "-") if len(differing) > 5 else name.split("_")[0]
        assert heading in wide
        for row in rows:
            value = row["config"][name]
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            assert value is None or shown in wide
