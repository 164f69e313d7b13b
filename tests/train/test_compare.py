import json

import pytest
from PIL import Image

from train import compare
from train.compare import main
from train.report import figures

CONFIG = {"dataset": "digits", "hidden": "100", "learning_rate": 0.1, "folds": None}


def line(step, accuracy, run=0, seed=0, validation=None):
    """An evaluation with a loss of 1 - accuracy on all sets."""
    record = {"run": run, "seed": seed, "step": step, "seconds": 1.0}
    values = {"train": accuracy, "validation": validation, "test": accuracy}
    for name, value in values.items():
        if name != "validation" or value is not None:
            record |= {f"{name}_loss": value and 1 - value, f"{name}_accuracy": value}
    return record


def row(config, accuracies, validation=None):
    def spread(values):
        mean = sum(values) / len(values)
        return {"mean": mean, "std": 0.0, "values": values}

    found = {"config": config, "seeds": list(range(len(accuracies))), "folds": None}
    found |= {"parameters": 17, "diverged": [None] * len(accuracies)}
    found["stopped"] = found["diverged"]
    sets = {"train": accuracies, "test": accuracies}
    if validation is not None:
        sets["validation"] = validation
    for name, values in sets.items():
        for metric in ("loss", "accuracy"):
            both = spread(values if metric == "accuracy" else [1 - v for v in values])
            found[f"{name}_{metric}"] = {"final": both, "best": both}
    return found


def make(path, lines, rows=None, runs=None, fingerprint="f00", command="train.mlp", **config):
    """A run directory; without rows of a run that did not finish."""
    path.mkdir()
    flags = CONFIG | {"seed": 0, "fold": None, "data_dir": None, "out": str(path)} | config
    if runs is not None:
        flags = {name: flags[name] for name in flags if name not in runs[0]}
        flags["runs"] = runs
    as_given = {"command": command, "flags": {}, "fingerprint": fingerprint}
    (path / "config.json").write_text(json.dumps(flags | as_given))
    (path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    if rows is not None:
        dataset = {"name": flags["dataset"], "description": "Of tests.", "fingerprint": fingerprint}
        (path / "summary.json").write_text(json.dumps({"dataset": dataset, "rows": rows}))
    return str(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder, and what figures are asked for."""
    monkeypatch.chdir(tmp_path)
    drawn = []
    monkeypatch.setattr(figures, "bands", lambda *arguments: drawn.append(arguments))
    return tmp_path, drawn


def compared(name="compare.json"):
    with open(name) as file:
        return json.load(file)


def test_configurations_of_all_directories_are_ranked_together(here, capsys):
    path, drawn = here
    sweep = [CONFIG | {"learning_rate": rate} for rate in (0.1, 0.2)]
    lines = [line(9, accuracy, run, run % 2) for run, accuracy in enumerate((0.5, 0.7, 0.8, 0.9))]
    a = make(
        path / "a",
        lines,
        [row(sweep[1], [0.8, 0.9]), row(sweep[0], [0.5, 0.7])],
        [{"learning_rate": rate, "seed": seed} for rate in (0.1, 0.2) for seed in (0, 1)],
    )
    wide = CONFIG | {"hidden": "500"}
    b = make(path / "b", [line(9, 0.75)], [row(wide, [0.75])], hidden="500")
    assert main([a, b]) == 0

    found = compared()
    assert found["ranked_by"] == "test_accuracy"
    assert found["same_data"]
    assert [r["run_directory"] for r in found["rows"]] == [a, b, a]
    assert [r["config"]["learning_rate"] for r in found["rows"]] == [0.2, 0.1, 0.1]
    assert [r["config"]["command"] for r in found["rows"]] == ["train.mlp"] * 3
    ((results, figure, title, note),) = drawn
    assert [records for _, records in results] == [
        [[lines[2]], [lines[3]]],
        [[line(9, 0.75)]],
        [[lines[0]], [lines[1]]],
    ]
    assert str(figure) == "compare.png"
    assert "2 run directories on digits" in title
    assert "Beware" not in note
    text = capsys.readouterr().out
    assert "digits: Of tests." in text
    rows = [line.split() for line in text.splitlines()]
    assert ["500", "0.1", "1"] in [row[2:5] for row in rows if row and row[0] == "2"]
    assert "folds" not in text
    assert text.endswith(f"next  python -m train.evaluate {a}\n")
    assert "best  " in text
    assert "unfinished" not in text


def test_a_run_that_did_not_finish_is_compared_by_its_evaluations(here, capsys):
    path, _ = here
    done = make(path / "done", [line(9, 0.74)], [row(CONFIG, [0.74])])
    killed = make(
        path / "killed",
        [line(5, 0.6, 0), line(5, 0.7, 1, 1), line(9, 0.8, 0), line(9, 0.9, 2, 0)],
        runs=[
            {"learning_rate": rate, "seed": seed} for rate, seed in ((1, 0), (1, 1), (2, 0), (3, 0))
        ],
    )
    with open(path / "killed" / "metrics.jsonl", "a") as file:
        file.write('{"run": 1, "step": 9, "te')  # Killed while it wrote.
    assert main([done, killed]) == 0
    rows = compared()["rows"]
    assert [(r["config"]["learning_rate"], r.get("unfinished")) for r in rows] == [
        (2, 9),
        (1, 5),  # The second seed has come so far.
        (0.1, None),
        (3, 0),
    ]
    assert rows[1]["test_accuracy"]["final"]["values"] == [0.8, 0.7]
    assert rows[1]["test_accuracy"]["final"]["mean"] == pytest.approx(0.75)
    assert rows[3]["test_accuracy"]["final"]["mean"] is None
    text = capsys.readouterr().out
    text = " ".join(text.split())
    assert "* unfinished: row 1, at step 9; row 2, at step 5; row 4, at step 0." in text
    assert text.endswith(f"next python -m train.mlp --resume {killed}")


def test_a_run_without_losses_diverged(here, capsys):
    path, _ = here
    bad = make(path / "bad", [line(0, None), line(5, 0.6), line(9, None), line(12, None)])
    assert main([bad]) == 0
    (found,) = compared()["rows"]
    assert found["diverged"] == [9]
    assert found["test_accuracy"]["final"]["mean"] is None
    assert "Diverged at step 9." in capsys.readouterr().out


def test_the_validation_set_ranks_where_all_have_one(here, capsys):
    path, _ = here
    a = make(path / "a", [line(9, 0.9, validation=0.5)], [row(CONFIG, [0.9], [0.5])])
    b = make(path / "b", [line(9, 0.8, validation=0.6)], [row(CONFIG, [0.8], [0.6])])
    c = make(path / "c", [line(9, 0.85)], [row(CONFIG, [0.85])])
    assert main([a, b]) == 0
    assert [r["run_directory"] for r in compared()["rows"]] == [b, a]
    assert compared()["ranked_by"] == "validation_accuracy"
    assert "final validation accuracy" in capsys.readouterr().out
    assert main([a, b, c]) == 0
    assert [r["run_directory"] for r in compared()["rows"]] == [a, c, b]
    assert compared()["ranked_by"] == "test_accuracy"


@pytest.mark.parametrize("other", [{"dataset": "mnist"}, {"fingerprint": "ba5"}])
@pytest.mark.parametrize("finished", [True, False])
def test_other_data_are_not_compared_in_silence(here, capsys, other, finished):
    path, drawn = here
    a = make(path / "a", [line(9, 0.9)], [row(CONFIG, [0.9])])
    config = CONFIG | {"dataset": other.get("dataset", "digits")}
    b = make(path / "b", [line(9, 0.8)], [row(config, [0.8])] if finished else None, **other)
    assert main([a, b]) == 0
    assert not compared()["same_data"]
    text = " ".join(capsys.readouterr().out.split())
    assert "The data sets differ" in text
    assert " best " not in text.replace("none is the best", "")
    assert "the data sets differ" in drawn[0][3]


def test_data_of_ones_own_are_called_by_their_file(here, capsys):
    """Their whole path would leave no room for the rest."""
    path, _ = here
    folders = []
    for name in ("a", "b"):
        own = {"dataset": f"/data/{name}.csv"}
        folders.append(make(path / name, [line(9, 0.9)], [row(CONFIG | own, [0.9])], **own))
    assert main(folders) == 0
    shown = capsys.readouterr().out.split("─")[-1]  # Below the headings.
    assert "a.csv" in shown
    assert "/data" not in shown


def test_the_next_command_is_written_as_this_one_was_typed(here, capsys, monkeypatch):
    path, _ = here
    a = make(path / "a", [line(9, 0.9)], [row(CONFIG, [0.9])])
    monkeypatch.setattr("sys.argv", ["/usr/bin/jaxnets", "compare", a])
    assert main([a]) == 0
    assert f"next  jaxnets evaluate {a}" in capsys.readouterr().out


def problems(path):
    make(path / "good", [line(9, 0.9)], [row(CONFIG, [0.9])])
    make(path / "torn", [line(9, 0.9)])
    (path / "torn" / "config.json").write_text('{"command": ')
    make(path / "alien", [line(9, 0.9, run=7)])
    (path / "empty").mkdir()
    (path / "notes.png").write_text("mine")
    (path / "mine.json").write_text('{"compared to": "nothing"}')
    (path / "list.json").write_text('["compared", "ranked_by", "same_data", "rows"]')


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "RUN_DIR: needs at least one run directory"),
        (["good", "missing"], "missing is not a folder: name a run directory"),
        (["empty"], "empty holds no config.json: name a run directory"),
        (["torn"], "torn/config.json is damaged: "),
        (["alien"], "alien/metrics.jsonl is damaged: it names a run that config.json does not"),
        (["good", "--out", "x.json"], "--out x.json: must end in .png, .pdf, .svg"),
        (["good", "--out", ""], "--out: is empty; name a file or folder"),
        (["good", "--out", "."], "--out .: must end in .png, .pdf, .svg"),
        (["good", "--out", "list.png"], "--out list.png: list.json is there and no earlier"),
        (["good", "--out", "no/x.png"], "--out no/x.png: no is not a folder"),
        (["good", "--out", "notes.png"], "--out notes.png: notes.png is there and no earlier"),
        (["good", "--out", "mine.png"], "--out mine.png: mine.json is there and no earlier"),
    ],
    ids=lambda value: " ".join(value)[:30],
)
def test_what_cannot_be_compared_is_refused_in_one_line(here, capsys, arguments, message):
    path, drawn = here
    problems(path)
    before = sorted(path.rglob("*"))
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"error: {message}")
    assert output.err.count("\n") == 1
    assert output.out == ""
    assert not drawn
    assert sorted(path.rglob("*")) == before


def test_an_earlier_comparison_is_replaced(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a = make(tmp_path / "a", [line(0, 0.1), line(9, 0.9)], [row(CONFIG, [0.9])])
    assert main([a, "--out", "twice.svg"]) == 0
    first = compared("twice.json")
    assert main([a, a, "--out", "twice.svg"]) == 0
    assert len(first["rows"]) == 1
    assert len(compared("twice.json")["rows"]) == 2
    assert (tmp_path / "twice.svg").read_text().startswith("<?xml")
    assert main([a]) == 0
    with Image.open("compare.png") as image:
        assert image.width > 1000
    assert capsys.readouterr().out.splitlines()[-4:] == [
        "figure   compare.png",
        "numbers  compare.json",
        "",
        f"next  python -m train.evaluate {a}",
    ]


def test_killed_between_its_two_files_it_replaces_them_the_next_time(here, monkeypatch):
    path, _ = here
    a = make(path / "a", [line(9, 0.9)], [row(CONFIG, [0.9])])

    class Killed(BaseException):
        pass

    def killed(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(figures, "bands", killed)
        with pytest.raises(Killed):
            main([a])
    monkeypatch.setattr(figures, "bands", lambda found, out, *rest: out.write_text("a figure"))
    assert main([a]) == 0
    assert (path / "compare.png").read_text() == "a figure"
    assert len(compared()["rows"]) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row["test_accuracy"]["final"].update(mean=9.1, values=[9.1]),
        lambda row: row["test_accuracy"]["final"].update(mean=0.91),
        lambda row: row["test_loss"]["best"].update(mean=-0.1, values=[-0.1]),
        lambda row: row["test_loss"].pop("final"),
        lambda row: row["config"].update(hidden="7"),
        lambda row: row.update(seeds=[0, 1]),
    ],
)
def test_impossible_results_are_refused_without_a_checksum_too(here, capsys, change):
    path, drawn = here
    changed = row(CONFIG, [0.9])
    changed = json.loads(json.dumps(changed))  # Final and best share nothing.
    change(changed)
    assert main([make(path / "a", [line(9, 0.9)], [changed])]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not drawn


def test_a_disk_that_is_full_is_status_1(here, capsys, monkeypatch):
    path, _ = here
    a = make(path / "a", [line(9, 0.9)], [row(CONFIG, [0.9])])

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compare.files, "write_json", full)
    assert main([a]) == 1
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device\n"
