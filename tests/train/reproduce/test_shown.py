"""What is printed and drawn of an experiment, with numbers that are written down."""

import json
import types

import numpy as np
import pytest
from rich.console import Console

from train.reproduce import __main__ as reproduce
from train.reproduce import gradient_tables, quick
from train.reproduce.derivations import Derivation, Gradient, Shape
from train.reproduce.errata import Erratum
from train.reproduce.experiments import EXPERIMENTS, Experiment, Reported, _rows


def lines_of(printed):
    """What is printed, a line each, without the frame of a table and without repeated spaces."""
    console = Console(width=120, record=True)
    printed(console)
    text = console.export_text()
    for sign in "┃│┏┓┗┛━┡┩├┤┴┬┼─└┘╇╈┳┻":
        text = text.replace(sign, " ")
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


# --- gradients -----------------------------------------------------------------------------------


def gradient(name, size, reported=None):
    by_hand = np.arange(1.0, size + 1)
    return Gradient(name, by_hand, by_hand + 0.5, by_hand - 0.25, reported)


def test_a_gradient_is_shown_entry_by_entry():
    derivation = Derivation("A net", None, {}, {"a": None}, reported_loss=0.125)
    gradients = [gradient("a", 2, np.array([1.0, 4.0])), gradient("b", 1)]
    found = lines_of(lambda c: c.print(gradient_tables._table(derivation, 1 / 3, gradients)))
    assert found == [
        "A net: loss 0.333333333333, report 0.125",
        "gradient by hand autodiff finite differences report",
        "a[0] 1.0000000000 1.5000000000 0.7500000000 1.0000000000",
        "a[1] 2.0000000000 2.5000000000 1.7500000000 4.0000000000",
        "b[0] 1.0000000000 1.5000000000 0.7500000000 -",
    ]


@pytest.mark.parametrize(("size", "more"), [(8, False), (9, True)])
def test_of_a_large_gradient_eight_entries_are_shown_and_the_largest_difference(size, more):
    large = gradient("a", size)
    large.autodiff[-1] += 2.0
    derivation = Derivation("A net", None, {})
    found = lines_of(lambda c: c.print(gradient_tables._table(derivation, 2.0, [large])))
    assert found[:2] == ["A net: loss 2", "gradient by hand autodiff finite differences"]
    assert [line.split()[0] for line in found[2:10]] == [f"a[{number}]" for number in range(8)]
    assert found[10:] == (["a, 9 entries off by 2.5e+00 2.5e-01"] if more else [])


def test_shapes_stand_beside_those_of_the_report():
    shape = Shape("dk/dw", (3, 2), (5, 3, 2), (3, 4), (5, 3, 4))
    assert lines_of(lambda c: c.print(gradient_tables._shapes([shape])))[1:] == [
        "quantity one example report batch report",
        "dk/dw (3, 2) (3, 4) (5, 3, 2) (5, 3, 4)",
    ]


def test_a_distance_is_the_largest_of_an_entry():
    automatic = np.array([1.0, 2.0])
    assert gradient_tables._distance(np.array([0.5, 2.0]), automatic) == "0.5"
    assert gradient_tables._distance(np.array([1.0, 4.0]), automatic) == "2"
    assert gradient_tables._distance(np.ones((2, 3)), automatic) == "of shape [2, 3], far"


@pytest.mark.parametrize("name", ["Z1", "E3"])
def test_the_gradients_of_an_experiment_and_its_mistakes_are_shown(monkeypatch, name):
    numbers = (np.array([3.0]), np.array([1.0]), np.array([1.0]))
    erratum = Erratum("line 3", "dx = 3", "dx = 1", lambda: numbers)
    monkeypatch.setitem(gradient_tables.ERRATA, name, (erratum,))
    monkeypatch.setitem(
        gradient_tables.DERIVATIONS, name, lambda: [Derivation("A net", None, {})] * 2
    )
    monkeypatch.setattr(gradient_tables, "compare", lambda d: (0.5, [gradient("a", 1)]))
    monkeypatch.setattr(gradient_tables, "shapes", lambda: [])
    found = []
    said = lines_of(lambda c: found.extend(gradient_tables.show(name, c)))
    assert found == [
        {
            "derivation": "A net", "loss": 0.5, "name": "a", "by_hand": [1.0], "autodiff": [1.5],
            "differences": [0.75], "reported": None,
        }
    ] * 2  # fmt: skip
    assert ("Shapes for one example, and for a batch by vmap" in said) == (name == "E3")
    assert said[-2:] == [
        "The report errs in line 3. It says: dx = 3. Right is: dx = 1. Its formula is 2 from "
        "autodiff's gradient, the right one",
        "0.",
    ]
    assert lines_of(lambda c: found.append(gradient_tables.show("none", c))) == []
    assert found[-1] == []


# --- numbers -------------------------------------------------------------------------------------


def experiment(**options):
    commands = ("mlp --hidden 8 --steps 500 1000", "convnet --steps 1000")
    given = {"commands": commands, "note": "A note."} | options
    return Experiment("Z1", "A report", "A title", **given)


def beside(**changes):
    return {
        "where": {"learning_rate": 0.5, "steps": 9}, "metric": "test_accuracy", "which": "final",
        "reported": 0.5, "reported_std": None, "mean": 0.25, "std": 0.125, "runs": 2,
    } | changes  # fmt: skip


def test_the_table_has_the_number_of_the_report_beside_ours():
    rows = [
        beside(),
        beside(runs=1, reported_std=0.01, where={}),
        beside(mean=None, which="best", metric="test_loss", runs=0),
    ]
    table = reproduce._table(experiment(), rows, " - REDUCED")
    assert lines_of(lambda c: c.print(table)) == [
        "Z1: the report and here - REDUCED",
        "configuration metric report here runs",
        "learning-rate 0.5, steps 9 final test accuracy 0.5000 0.2500 ± 0.1250 2",
        "final test accuracy 0.5000 ± 0.0100 0.2500 1",
        "learning-rate 0.5, steps 9 best test loss 0.5000 - 0",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"commands": ()}, "gradients side by side, seconds"),
        ({}, "not run in full"),
        ({"minutes": 0.9}, "under a minute for each seed, 2 cores"),
        ({"minutes": 1}, "1 minutes for each seed, 2 cores"),
        ({"minutes": 2.5}, "2.5 minutes for each seed, 2 cores"),
    ],
)
def test_how_long_an_experiment_takes(options, words):
    assert reproduce._duration(experiment(**options)) == words


def test_the_list_says_what_an_experiment_is(monkeypatch):
    reported = (
        Reported({"steps": 500}, "test_accuracy", 0.5, "best"),
        Reported({}, "test_loss", 0.25, deviation=0.125),
    )
    several = (experiment(reported=reported, minutes=3), experiment(note="")._replace(name="Z2"))
    monkeypatch.setattr(reproduce, "EXPERIMENTS", several)
    console = Console(width=120, record=True)
    reproduce.listing(console)
    assert console.export_text().splitlines() == [
        "Z1  A title",
        "    A report; 3 minutes for each seed, 2 cores",
        "    python -m train.mlp --hidden 8 --steps 500 1000",
        "    python -m train.convnet --steps 1000",
        "    the report: steps 500: best test accuracy 0.5000",
        "    the report: final test loss 0.2500 ± 0.1250",
        "    A note.",
        "",
        "Z2  A title",
        "    A report; not run in full",
        "    python -m train.mlp --hidden 8 --steps 500 1000",
        "    python -m train.convnet --steps 1000",
        "",
    ]


@pytest.mark.parametrize("less", [False, True])
def test_an_experiment_ends_in_a_file_of_its_results(monkeypatch, tmp_path, capsys, less):
    drawn, words = [], []
    module = types.SimpleNamespace(main=lambda given: words.append(given) or 0)
    monkeypatch.setattr(
        reproduce, "importlib", types.SimpleNamespace(import_module=lambda name: module)
    )
    monkeypatch.setattr("train.reproduce.gradient_tables.show", lambda name, console: ["gradients"])
    read = types.SimpleNamespace(summary={"dataset": {"description": "Noise."}})
    monkeypatch.setattr(reproduce.reader, "read", lambda directory: read)
    row = {
        "config": {"steps": 30 if less else 500, "hidden": "8"},
        "test_accuracy": {"final": {"mean": 0.25, "std": None, "values": [0.25, None]}},
    }
    monkeypatch.setattr(reproduce.reader, "configurations", lambda read: [(row, [])])
    monkeypatch.setattr(reproduce, "_draw", lambda *arguments: drawn.append(arguments))
    chosen = experiment(reported=(Reported({"steps": 500}, "test_accuracy", 0.5),))
    options = reproduce.Options(("Z1",), 2, less, None, tmp_path)
    assert reproduce.reproduce(chosen, options) == 0
    assert len(words) == 2
    assert "--data-dir" not in words[0]
    said = capsys.readouterr().out
    assert ("REDUCED by --quick" in said) == less
    assert "A report. A note." in said
    assert "\npython -m train.mlp --hidden 8 --steps " in said
    folder = tmp_path / ("quick" if less else "full") / "Z1"
    assert json.loads((folder / "result.json").read_text()) == {
        "experiment": "Z1",
        "source": "A report",
        "reduced": less,
        "gradients": ["gradients"],
        "compared": [
            {
                "where": {"steps": 500}, "metric": "test_accuracy", "which": "final",
                "reported": 0.5, "reported_std": None, "mean": 0.25, "std": None, "runs": 1,
            }
        ],
        "configurations": [row, row],
    }  # fmt: skip
    ((_, found, path, caution, note),) = drawn
    assert len(found) == 2
    assert path == folder / "figure.png"
    assert bool(caution) == less
    assert note == "A report. Noise."
    assert said.endswith(f"results       {folder / 'result.json'}\n\n")


def test_an_experiment_of_gradients_alone_has_no_figure(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("train.reproduce.gradient_tables.show", lambda name, console: [])
    monkeypatch.setattr(reproduce, "_draw", None)
    monkeypatch.setattr(reproduce, "EXPERIMENTS", (experiment(commands=()),))
    assert reproduce.main(["z1", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "full" / "Z1" / "result.json").is_file()
    said = capsys.readouterr().out
    assert "figure" not in said
    assert "the report and here" not in said


@pytest.mark.parametrize(
    ("options", "several", "asked"),
    [
        ({"figure": "against", "flags": ("a", "b")}, True, ["against", "rows", "a", "b"]),
        ({"figure": "heat map", "flags": ("a", "b")}, True, ["heat_map", "rows", "a", "b"]),
        ({"axis": "epoch"}, False, ["curves", "runs", "epoch"]),
        ({}, True, ["bands", "ranked"]),
    ],
)
def test_each_kind_of_experiment_has_its_figure(monkeypatch, tmp_path, options, several, asked):
    found = [({"config": {"steps": 9, "seed": n}}, [["runs"]]) for n in range(1 + several)]
    names = {id(found[0][1]): "runs"}
    drawn = []

    def stub(name):
        def draw(what, *words):
            of = "rows" if what == [row for row, _ in found] else names.get(id(what), what)
            drawn.append([name, of, *words])

        return draw

    for module, function in (
        (reproduce.figures, "against"), (reproduce.panels, "heat_map"),
        (reproduce.figures, "curves"), (reproduce.figures, "bands"),
    ):  # fmt: skip
        monkeypatch.setattr(module, function, stub(function))
    monkeypatch.setattr(reproduce.summary, "ranked", lambda found: "ranked")
    reproduce._draw(experiment(**options), found, tmp_path, "!", "note")
    last = [tmp_path, "Z1: A title!", "note"]
    where = {"curves": 2, "bands": 2}.get(asked[0], 4)
    assert drawn == [[*asked[:where], *last, *asked[where:]]]


# --- the table of experiments --------------------------------------------------------------------


def test_every_number_of_a_report_is_one_of_its_metric():
    for chosen in EXPERIMENTS:
        assert chosen.minutes is None or 0 < chosen.minutes < 1000
        for reported in chosen.reported:
            assert reported.value > 0
            if reported.metric.endswith("accuracy"):
                assert 0.1 < reported.value < 1  # Of ten classes more than chance, or of two.
            else:
                assert reported.value < 0.7  # Two classes give log 2 by chance.
            assert reported.deviation is None or 0 < reported.deviation < 0.1


def test_rows_are_values_of_flags_and_a_percentage():
    text = "\n 1x100  0.002 1500 39.6\n 2x100 0.5 9 50\n"
    assert _rows("test_accuracy", text, "hidden", "learning_rate", "steps") == (
        Reported(
            {"hidden": "1x100", "learning_rate": 0.002, "steps": 1500}, "test_accuracy", 0.396
        ),
        Reported({"hidden": "2x100", "learning_rate": 0.5, "steps": 9}, "test_accuracy", 0.5),
    )
    assert _rows("test_loss", "7 1", "steps")[0].where == {"steps": 7}
    with pytest.raises(ValueError, match="zip"):
        _rows("test_loss", "7 1", "steps", "hidden")


# --- --quick -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "steps", "every"),
    [
        ("mlp --steps 500 1000", "30 60", "20"),
        ("mlp --hidden 8", "60", "20"),
        ("mlp --epochs 7 --batch-size 5", "60", "20"),
        ("mlp --steps 3", "1", "1"),
        ("mlp --steps 50", "3", "1"),
    ],
)
def test_a_command_is_made_small_in_proportion(command, steps, every):
    chosen = experiment(commands=("mlp --steps 500 1000", "mlp --steps 3", "mlp --steps 50"))
    found = quick.reduced(command, chosen)
    for flag, value in (("--steps", steps), ("--eval-every", every),
                        ("--train-examples", "2000"), ("--test-examples", "500")):  # fmt: skip
        assert f"{flag} {value} " in f"{found} "
    assert "--epochs" not in found
    assert "--validation" not in found


def test_what_takes_few_steps_takes_them_all():
    chosen = experiment(commands=("mlp --steps 7 60",))
    assert quick.reduced_steps(chosen) == {7: 7, 60: 60}
    assert quick.reduced_steps(experiment(commands=("mlp --steps 7",))) == {7: 7}
    assert quick.reduced_steps(experiment(commands=("mlp --epochs 7",))) == {}


def test_flags_of_the_reduced_form_come_last():
    chosen = experiment(commands=("mlp --validation 1000 --hidden 8",), quick="--hidden 3")
    found = quick.reduced(chosen.commands[0], chosen)
    assert "--validation 500" in found
    assert "--hidden 3" in found
    assert "--hidden 8" not in found
    assert "--validation 0" in quick.reduced("mlp --validation 0", chosen)
