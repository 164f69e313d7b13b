"""What a table of results says in words."""

import pytest

from train.report import labels, tables
from train.run_directory.summary import row_of


def row(accuracy=0.5, seeds=(0,), directory=None, **config):
    records = [[{"step": 5, "test_loss": 1.0 + seed, "test_accuracy": accuracy}] for seed in seeds]
    found = row_of(config, list(seeds), 17, records)
    return found if directory is None else {**found, "run_directory": directory}


def summary(*rows):
    return {"dataset": {"name": "noise", "description": "Noise."}, "rows": list(rows)}


def test_rows_of_two_directories_name_theirs():
    two = [row(0.75, directory="a", l2=0.1), row(0.5, directory="b", l2=0.2)]
    found = tables.cells(summary(*two))
    assert found.headings == ["", "run\ndirectory", "l2", "test\nloss", "test\naccuracy"]
    assert found.rows == [
        ["1", "a", "0.1", "1.0000", "0.7500"], ["2", "b", "0.2", "1.0000", "0.5000"],
    ]  # fmt: skip
    assert (found.numbers, found.best, found.title) == (3, 0, "noise: Noise.")
    assert labels.labels(two) == ["a, l2 0.1", "b, l2 0.2"]
    one = [{**of, "run_directory": "a"} for of in two]
    assert tables.cells(summary(*one)).headings[1] == "l2"
    assert labels.labels(one) == ["l2 0.1", "l2 0.2"]
    assert labels.labels(one[:1]) == ["all runs"]


def test_seeds_have_a_column_where_they_are_not_as_many():
    found = tables.cells(summary(row(0.75, (0, 1), l2=0.1), row(0.5, l2=0.2)))
    assert found.headings == ["", "l2", "seeds", "test\nloss", "test\naccuracy"]
    assert [cells[2] for cells in found.rows] == ["2", "1"]
    assert found.rows[0][3] == "1.5000 ± 0.7071"


def test_a_caution_leaves_no_row_the_best():
    two = summary(row(0.75, l2=0.1), row(0.5, l2=0.2))
    found = tables.cells(two, "other data")
    assert (found.best, found.notes) == (None, ["Other data."])
    assert "best" not in tables.closing(two, ["a command", "b"], "other data")
    assert tables.closing(two, ["a command", "b"]).splitlines() == [
        "best  l2 0.1", "      test accuracy 0.7500", "next  a command", "      b",
    ]  # fmt: skip


def test_what_is_left_out_is_counted():
    rows = [row(0.9 - n / 100, l2=n / 100) for n in range(22)]
    found = tables.cells(summary(*rows), rest="the file")
    assert len(found.rows) == 20
    assert found.notes[0] == "2 more configurations: see the file."
    assert tables.cells(summary(*rows[:21])).notes[0].startswith("1 more configuration: see summ")
    assert "more" not in tables.cells(summary(*rows[:20])).notes[0]


def test_five_flags_have_a_column_each_and_six_share_one():
    names = ("l2", "dropout", "momentum", "decay", "clip_norm", "alpha")
    for count in (5, 6):
        two = [row(0.5, **dict.fromkeys(names[:count], value)) for value in (0.1, 0.2)]
        found = tables.cells(summary(*two))
        assert found.headings[1] == ("l2" if count == 5 else "configuration")
        assert len(found.headings) == 1 + (5 if count == 5 else 1) + 2


def test_a_single_configuration_says_how_its_runs_ended():
    found = tables.cells(summary({**row(), "diverged": [7]}))
    assert found.headings[:3] == ["", "loss (nats)", "best loss"] or found.headings[0] == ""
    assert found.rows == [["test", "1.0000", "1.0000", "0.5000", "0.5000"]]
    assert (found.numbers, found.best) == (1, None)
    assert found.notes == ["Diverged at step 7."]
    several = {**row(seeds=(0, 1)), "stopped": [3, None]}
    assert tables.cells(summary(several)).notes == [
        "Mean ± standard deviation over 2 seeds.",
        "Stopped early: 1 of 2 runs at step 3.",
    ]


def test_which_parameters_are_kept():
    def kept(*steps):
        return tables.kept("best", summary({**row(seeds=range(len(steps))), "kept": list(steps)}))

    assert kept(5) == kept(5, 5) == "parameters    of the lowest validation loss, step 5"
    assert kept(9, 5, 7) == "parameters    of the lowest validation loss, steps 5 to 9"
    assert kept(None) == "parameters    of the lowest validation loss"
    for which in ("last", None):
        assert tables.kept(which, summary(row())) == "parameters    of the last step"


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        (0.12345, 0.0, "0.1235 ± 0.0000"), (9999.0, 1.0, "9999.0000 ± 1.0000"),
        (12345.0, 10.0, "1.23e+04 ± 10"), (None, None, "-"),
    ],
)  # fmt: skip
def test_a_large_number_is_short(mean, std, text):
    assert tables._number({"mean": mean, "std": std, "values": [mean, mean]}) == text
    single = {"mean": mean, "std": std, "values": [mean, None]}
    assert tables._number(single) == text.partition(" ")[0]
    assert tables._number(None) == "-"


def test_the_widest_form_that_fits_is_taken(monkeypatch):
    two = summary(row(0.75, (0, 1), l2=0.1), row(0.5, (0, 1), l2=0.2))
    seen = []
    cells = tables.cells
    monkeypatch.setattr(tables, "cells", lambda *a: seen.append(a[2]) or cells(*a))
    tables.table(two)
    assert seen[-1].between == " ± "
    decimals = []
    for wide in (40, 38, 36, 34):
        monkeypatch.setattr(tables, "_WIDTH", wide)
        result = tables.table(two).renderables[1]
        widest = max(len(str(cell)) for cell in result.columns[-1].cells)
        decimals.append((seen[-1], widest))
    forms = [form for form, _ in decimals]
    assert [form.decimals for form in forms] == sorted((f.decimals for f in forms), reverse=True)
    assert {form.decimals for form in tables._FORMS} == {3, 4}
    assert [widest for _, widest in decimals] == sorted((w for _, w in decimals), reverse=True)


def test_numbers_are_aligned_to_the_right():
    def sides(count):
        rows = [row(0.9 - n / 100, l2=n / 100) for n in range(count)]
        result = tables.table(summary(*rows)).renderables[1]
        return [column.justify for column in result.columns]

    assert sides(2) == ["right", "left", "right", "right"]
    single = tables.table(summary(row())).renderables[1]
    assert [column.justify for column in single.columns] == ["left"] + ["right"] * 4
    assert not single.pad_edge
    assert not single.show_edge
