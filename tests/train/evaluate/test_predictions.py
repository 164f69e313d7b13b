"""Training on data of one's own, and classifying more where they are gone."""

import csv
import json
import shutil

import jax
import numpy as np
import pandas as pd
import pytest

from train import fit, load
from train.evaluate.__main__ import main
from train.mlp import main as train_mlp
from train.report import figures

FEW = "--hidden 4 --steps 6 --eval-every 3 --batch-size 10 --missing mean --folds 2".split()  # noqa: SIM905


@pytest.fixture(scope="module", autouse=True)
def quick():
    """What the commands need of JAX's defaults, and no time spent on figures."""
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(figures, "curves", lambda *arguments: None)
        patch.setattr(figures, "bands", lambda *arguments: None)
        yield


def rows(count):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"age": random.normal(1e4, 3, count), "sex": ["f", "m"] * (count // 2)})
    frame["constant"] = 0.1
    frame["survived"] = np.where(frame["age"] + 3 * (frame["sex"] == "f") > 1e4, "yes", "no")
    frame.loc[3, "age"] = None
    return frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of two folds on p.csv, which is then moved away to new.csv."""
    path = tmp_path_factory.mktemp("own")
    rows(60).to_csv(path / "p.csv", index=False)
    assert train_mlp(["--dataset", str(path / "p.csv"), *FEW, "--out", str(path / "run")]) == 0
    (path / "p.csv").rename(path / "new.csv")
    return path


def predicted(folder, out, *words):
    assert main([str(folder / "run"), "--predict", *map(str, words), "--out", str(out)]) == 0
    return json.loads((out / "predictions.json").read_text())["predictions"]


@pytest.mark.slow
def test_rows_are_classified_without_the_data(folder, tmp_path, capsys):
    found = predicted(folder, tmp_path, folder / "new.csv", "--run", "1")
    printed = capsys.readouterr().out
    assert "60 rows, without the column 'survived'" in printed
    assert "and 40 more" in printed
    with (tmp_path / "predictions.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["row"] for row in table] == [str(i) for i in range(1, 61)]
    for row, prediction in zip(table, found, strict=True):
        assert row["class"] == prediction["class"]
        for name, share in prediction["probabilities"].items():
            assert float(row[f"p({name})"]) == pytest.approx(share, abs=1e-6)
    # As the network of Python says, from data frames and from the file.
    network = load(folder / "run")[1]
    frame = pd.read_csv(folder / "new.csv")
    assert network.predict(frame).tolist() == [row["class"] for row in table]


def test_the_network_sees_what_it_saw_in_training(folder, tmp_path, capsys):
    """The accuracy on the rows of the test set is the one of the training, in each fold."""
    shutil.copy(folder / "new.csv", folder / "p.csv")
    try:
        for run in ("0", "1"):
            assert main([str(folder / "run"), "--run", run, "--out", str(tmp_path)]) == 0
            assert "summary.json says" not in capsys.readouterr().out
            assert not (tmp_path / "mistakes.png").exists()  # Rows are not drawn.
        (folder / "p.csv").write_text((folder / "p.csv").read_text().replace(",f,", ",m,", 1))
        assert main([str(folder / "run"), "--out", str(tmp_path)]) == 2
        assert "was trained on another p, with fingerprint" in capsys.readouterr().err
    finally:
        (folder / "p.csv").unlink()
    assert main([str(folder / "run"), "--out", str(tmp_path)]) == 2
    assert "p.csv: is not there" in capsys.readouterr().err


def test_each_fold_has_the_statistics_of_its_own_training_rows(folder):
    stored = json.loads((folder / "run" / "data.json").read_text())
    shutil.copy(folder / "new.csv", folder / "p.csv")
    try:
        x = __import__("train.data").data.load(str(folder / "p.csv"), missing="mean").x_train
    finally:
        (folder / "p.csv").unlink()
    assert [row["fold"] for row in stored["preprocessing"]] == [0, 1]
    for row in stored["preprocessing"]:
        kept = x[24:] if row["fold"] == 0 else x[:24]
        # age; the words f and m, which stay 0 or 1; the constant, which becomes 0.
        shift, scale = row["shift"], row["scale"]
        assert shift[0] == pytest.approx(kept[:, 0].mean(), rel=1e-6)
        assert scale[0] == pytest.approx(1 / kept[:, 0].std(), rel=1e-3)
        assert (shift[1:3], scale[1:3]) == ([0, 0], [1, 1])
        assert scale[3] == 0


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("age,sex\n1,f\n", "has no column 'constant', which the network needs"),
        (
            "age,sex,constant\n1,x,0\n",
            "row 1 has 'x' in column 'sex', which was not there to train",
        ),
        ("age,sex,constant\n1,f,y\n", "row 1 has 'y' in column 'constant', which holds numbers"),
        ("", "needs at least two columns"),
    ],
)
def test_rows_that_cannot_be_classified(folder, tmp_path, capsys, content, line):
    (tmp_path / "a.csv").write_text(content)
    assert main([str(folder / "run"), "--predict", str(tmp_path / "a.csv")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --predict {tmp_path / 'a.csv'}: {line}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"shape"', '"shapes"'),
        lambda text: text.replace('"words"', '"word"'),
        lambda text: text.replace('"scale"', '"scales"'),
        lambda text: text.replace('"classes"', '"class"'),
        lambda text: text.replace('"fill": "', '"fill": "z'),
        lambda text: text[:-9],
        lambda text: "[]",
    ],
)
def test_a_damaged_data_file_is_told(folder, tmp_path, capsys, change):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    text = (run / "data.json").read_text()
    (run / "data.json").write_text(change(text))
    words = [str(run), "--predict", str(folder / "new.csv")]
    assert main(words) == 2
    assert "data.json is damaged: it does not have the checksum" in capsys.readouterr().err
    (run / "manifest.sha256").unlink()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "data.json is damaged: " in error
    assert error.count("\n") == 1


def test_a_run_without_a_data_file_needs_the_data(folder, tmp_path, capsys):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    (run / "data.json").unlink()
    (run / "manifest.sha256").unlink()
    words = [str(run), "--predict", str(folder / "new.csv"), "--out", str(tmp_path)]
    assert main(words) == 2
    assert "p.csv: is not there" in capsys.readouterr().err
    shutil.copy(folder / "new.csv", folder / "p.csv")
    try:
        assert main(words) == 0
    finally:
        (folder / "p.csv").unlink()
    without = json.loads((tmp_path / "predictions.json").read_text())["predictions"]
    assert without == predicted(folder, tmp_path, folder / "new.csv")


def test_a_run_is_resumed_where_its_data_have_moved_to(folder, tmp_path, capsys):
    run = str(shutil.copytree(folder / "run", tmp_path / "run"))
    assert train_mlp(["--resume", run]) == 2
    assert "p.csv: is not there" in capsys.readouterr().err
    assert train_mlp(["--resume", run, "--dataset", str(folder / "new.csv")]) == 0


@pytest.mark.slow
def test_arrays_are_trained_on_from_python(tmp_path):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 3)), np.where(np.arange(60) % 2, "odd", "even")
    flags = {"hidden": 4, "steps": 2, "eval_every": 2, "batch_size": 10}
    network = fit((x, y), **flags, out=tmp_path / "run", test=12).best
    assert set(network.predict(x)) <= {"odd", "even"}
    again = load(tmp_path / "run").best
    np.testing.assert_array_equal(again.predict(x), network.predict(x))
    assert again.predict(x).dtype == network.predict(x).dtype
    assert json.loads((tmp_path / "run/summary.json").read_text())["dataset"]["test_examples"] == 12
    for name in ("label", "image_size"):
        with pytest.raises(ValueError, match=r"is used with .* alone; got arrays"):
            fit((x, y), **flags, **{name: "5"})
    numbers = fit((x, np.arange(60) % 2 * 7), **flags).best.predict(x)
    assert set(numbers.tolist()) <= {0, 7}
    assert network.predict_proba(x[0]).shape == (1, 2)
    with pytest.raises(ValueError, match="row 1 holds nan"):
        network.predict(x * np.nan)
    frame = pd.DataFrame({"a": x[:, 0], "b": ["u", "v", "w"] * 20})
    network = fit((frame, y), **flags).best
    assert network.predict({"a": 1.0, "b": "v"}).shape == (1,)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--augment", "none", "flip"], "--augment flip: is for images, and p is a table"),
        (["--preprocessing", "unit"], "--preprocessing unit: is for images, and p is a table"),
        (["--label", "Age"], "--label Age: is no column of"),
        (["--test", "0"], "--test 0.0: must be a share between 0 and 1, or a whole number"),
        (["--image-size", "0"], "--image-size 0: must be height and width below 10000"),
    ],
)
def test_flags_that_do_not_go_with_a_table(folder, tmp_path, capsys, words, line):
    out = tmp_path / "run"
    path = str(folder / "new.csv")
    shutil.copy(path, tmp_path / "p.csv")
    words = ["--dataset", str(tmp_path / "p.csv"), *FEW, *words, "--out", str(out)]
    assert train_mlp(words) == 2
    assert capsys.readouterr().err.startswith(f"error: {line}")
    assert not out.exists()


def test_a_table_is_no_input_of_a_convolution(folder, capsys):
    from train.convnet import main as train_convnet

    words = ["--dataset", str(folder / "new.csv"), "--missing", "mean"]
    assert train_convnet(words) == 2
    assert "new is a table, and a convolutional" in capsys.readouterr().err.replace(": is", " is")
