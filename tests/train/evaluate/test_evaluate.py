import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import f1_score, precision_score, recall_score

from train import compare, data
from train.data import split as plan
from train.data.image_file import read_images
from train.data.sources import data_folder
from train.evaluate import __main__ as evaluate
from train.evaluate.__main__ import main
from train.flags.config import MlpRun
from train.mlp import main as train_mlp
from train.report import figures
from train.run_directory import reader, rebuilt, trained_network

# Two shapes, batch statistics, bfloat16, and 2 of 4 runs ending before the others of their group.
SWEEP = [
    *("--hidden", "12", "8-8", "--norm", "batch", "--steps", "5", "30", "--eval-every", "30"),
    *("--precision", "bfloat16", "--learning-rate", "0.02", "--preprocessing", "mean-image"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Run directories: a sweep, a single run without a validation set, one that diverges."""
    path = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(figures, "curves", lambda *arguments: None)
        patch.setattr(figures, "bands", lambda *arguments: None)
        assert train_mlp([*SWEEP, "--out", str(path / "sweep")]) == 0
        alone = ["--steps", "20", "--validation", "0", "--test-examples", "300"]
        assert train_mlp([*alone, "--out", str(path / "one")]) == 0
    shutil.copytree(path / "sweep", path / "bad")
    damaged(path / "bad", "summary.json", lambda s: [r.update(diverged=[2]) for r in s["rows"]])
    return path


@pytest.fixture
def standard():
    with jax.numpy_dtype_promotion("standard"):
        yield


def read(path):
    return json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_each_run_is_as_accurate_as_its_training_said(
    folder, tmp_path, standard, capsys, split, index
):
    arguments = [str(folder / "sweep"), "--run", str(index), "--split", split]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    found = read(tmp_path / "evaluation.json")
    summary, config = read(folder / "sweep" / "summary.json"), read(folder / "sweep/config.json")
    flags = config["runs"][index]
    (row,) = (r for r in summary["rows"] if flags.items() <= r["config"].items())
    assert found["accuracy"] == row[f"{split}_accuracy"]["final"]["values"][0]
    assert found["loss"] == pytest.approx(row[f"{split}_loss"]["final"]["values"][0], rel=1e-6)
    assert found["examples"] == (360 if split == "test" else 144)
    assert "summary.json says" not in output
    assert f"accuracy {found['accuracy']:.4f}" in output


@pytest.mark.slow
def test_the_best_run_is_looked_at_and_its_mistakes_are_told(folder, tmp_path, standard, capsys):
    assert main([str(folder / "sweep"), "--out", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    stored = reader.read(folder / "sweep")
    best = stored.summary["rows"][0]["config"]
    found = read(tmp_path / "evaluation.json")
    index = found["run"]
    assert stored.runs[index].items() >= best.items()
    assert f"run {index} of 4 (hidden {best['hidden']}, steps {best['steps']}), the first" in output

    kind, network = rebuilt.made(stored)
    run = rebuilt.run(stored, index, kind)
    dataset = data.load("digits")
    logits = trained_network.load(stored, index, network, run, dataset)
    logits = logits.logits(logits.sets.test)
    labels, predicted = dataset.y_test, logits.argmax(-1)
    for number, name in enumerate(dataset.classes):
        row = found["classes"][number]
        assert row["name"] == name
        assert row["examples"] == (labels == number).sum()
        kinds = {"recall": recall_score, "precision": precision_score, "f1": f1_score}
        assert row["accuracy"] == row["recall"]  # The name of earlier versions.
        for kind, score in kinds.items():
            expected = score(labels, predicted, labels=[number], average=None, zero_division=np.nan)
            assert row[kind] == pytest.approx(expected[0]) or np.isnan(expected[0])
    for kind, mean in found["macro_average"].items():
        known = [row[kind] for row in found["classes"] if row[kind] is not None]
        assert mean == pytest.approx(sum(known) / len(known))
        assert f"{mean:.4f}" in next(s for s in output.splitlines() if "macro average" in s)
    for true in range(10):
        for other in range(10):
            count = ((labels == true) & (predicted == other)).sum()
            assert found["confusion"][true][other] == count
    # In the printed matrix, too.
    lines = [line.strip("│").split("│") for line in output.splitlines() if line.startswith("│")]
    matrix = [[int(c.strip().replace("·", "0")) for c in cells[1:]] for cells in lines[-10:]]
    assert matrix == found["confusion"]

    losses = np.logaddexp.reduce(logits.astype(float), -1) - logits[np.arange(360), labels]
    wrong = [i for i in np.argsort(-losses) if predicted[i] != labels[i]]
    mistakes = found["mistakes"]
    assert [m["index"] for m in mistakes] == wrong[: evaluate.MOST_MISTAKES]
    for m in mistakes:
        assert int(m["true"]) == labels[m["index"]]
        assert int(m["predicted"]) == predicted[m["index"]]
        assert m["loss"] == pytest.approx(losses[m["index"]], rel=1e-4)
        assert m["true_probability"] == pytest.approx(np.exp(-m["loss"]), rel=1e-4)
        assert m["probability"] > m["true_probability"]
    with Image.open(tmp_path / "mistakes.png") as image:
        assert min(image.size) > 500


def test_the_picture_shows_the_worst_first(folder, tmp_path, standard, monkeypatch):
    seen = []
    monkeypatch.setattr(figures, "mistakes", lambda *arguments: seen.append(arguments))
    assert main([str(folder / "one"), "--out", str(tmp_path)]) == 0
    ((drawn, largest, path, title),) = seen
    found = read(tmp_path / "evaluation.json")
    assert found["examples"] == 300
    images = data.load("digits").x_test
    assert largest == 16
    assert path == tmp_path / "mistakes.png"
    assert f"worst of {300 - sum(found['confusion'][i][i] for i in range(10))} mistakes" in title
    for mistake, told in zip(drawn, found["mistakes"], strict=True):
        np.testing.assert_array_equal(mistake.image, images[told["index"]])
        assert mistake.caption == (
            f"true {told['true']}, {told['true_probability']:.1%}\n"
            f"predicted {told['predicted']}, {told['probability']:.1%}"
        )


@pytest.mark.slow
def test_files_lie_in_the_run_directory_unless_told_otherwise(folder, tmp_path, standard, capsys):
    copy = shutil.copytree(folder / "one", tmp_path / "copy")
    assert main([str(copy), "--split", "train"]) == 0
    assert read(copy / "evaluation.json")["examples"] == 1437
    assert (copy / "mistakes.png").exists()
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"mistakes {copy / 'mistakes.png'}",
        f"numbers  {copy / 'evaluation.json'}",
    ]


def test_data_are_looked_for_where_they_were_or_where_they_are_here(
    folder, tmp_path, standard, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "here"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "here").mkdir()
    stored = reader.read(folder / "one")
    expected = {None: "here", "~/x": "x", str(tmp_path / "x"): "x", "/no/such/folder": "here"}
    for given, name in expected.items():
        flags = [{**stored.runs[0], "data_dir": given}]
        moved = stored._replace(config=stored.config._replace(runs=flags))
        run = rebuilt.run(moved, 0, MlpRun)
        assert data_folder(run.data.data_dir) == tmp_path / name


# --- other images --------------------------------------------------------------------------------


def predicted(folder, tmp_path, file):
    assert main([str(folder / "one"), "--predict", str(file), "--out", str(tmp_path)]) == 0
    return read(tmp_path / "predictions.json")


def test_an_array_is_classified_as_the_data_are(folder, tmp_path, standard, capsys):
    images = data.load("digits").x_test[:7]
    np.save(tmp_path / "several.npy", images)
    found = predicted(folder, tmp_path, tmp_path / "several.npy")
    stored = reader.read(folder / "one")
    kind, network = rebuilt.made(stored)
    run = rebuilt.run(stored, 0, kind)
    network = trained_network.load(stored, 0, network, run, plan.load_for(run))
    logits = network.logits(network.sets.test)[:7].astype(float)
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    shares = [list(p["probabilities"].values()) for p in found["predictions"]]
    np.testing.assert_allclose(shares, expected, rtol=1e-5)
    assert [int(p["class"]) for p in found["predictions"]] == expected.argmax(-1).tolist()
    assert "7 images, taken as they are" in capsys.readouterr().out
    for name, array in {"one": images[3], "grey": images[3, ..., 0]}.items():
        np.save(tmp_path / f"{name}.npy", array)
        (one,) = predicted(folder, tmp_path, tmp_path / f"{name}.npy")["predictions"]
        np.testing.assert_allclose(list(one["probabilities"].values()), expected[3], rtol=1e-5)


@pytest.mark.parametrize(
    ("mode", "suffix", "done"),
    [
        ("L", "png", "48x40 pixels, resized to 8x8, pixels from 0 to 255 scaled to 0 to 16"),
        ("RGB", "jpg", "48x40 pixels, made grey, resized to 8x8, pixels from"),
        ("RGBA", "png", "48x40 pixels, on white where it was transparent, made grey, resized"),
        ("P", "png", "48x40 pixels, made grey, resized"),
    ],
)
def test_an_image_file_is_brought_to_the_form_of_the_data(tmp_path, mode, suffix, done):
    half = np.zeros((40, 48), np.uint8)
    half[:, 24:] = 255  # Black on the left, white on the right.
    image = Image.fromarray(half).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(255 - half))  # What is white shines through.
    image.save(tmp_path / f"image.{suffix}")
    like = np.zeros((8, 8, 1), np.uint8)
    images, words = read_images(tmp_path / f"image.{suffix}", like, 16)
    assert words.startswith(done)
    assert images.shape == (1, 8, 8, 1)
    assert images.dtype == np.uint8
    assert images[0, :, :3].max() <= 1
    assert 15 <= images[0, :, 5:].min() <= images.max() <= 16


def test_a_grey_image_becomes_a_coloured_one_and_a_turned_one_is_turned(tmp_path):
    pixels = np.arange(32 * 32, dtype=np.uint32).reshape(32, 32) % 251
    image = Image.fromarray(pixels.astype(np.uint8))
    exif = image.getexif()
    exif[0x0112] = 3  # Upside down.
    image.save(tmp_path / "turned.png", exif=exif)
    images, words = read_images(tmp_path / "turned.png", np.zeros((32, 32, 3), np.uint8), 255)
    assert words == "32x32 pixels, made colour"
    for channel in range(3):
        np.testing.assert_array_equal(images[0, ..., channel], pixels[::-1, ::-1])


# --- what cannot be ------------------------------------------------------------------------------


def put(path):
    """Files that are no images of digits."""
    np.save(path / "flat.npy", np.zeros(64, np.uint8))
    np.save(path / "none.npy", np.zeros((0, 8, 8, 1), np.uint8))
    np.save(path / "real.npy", np.zeros((8, 8)))
    np.save(path / "loud.npy", np.full((8, 8), 17, np.uint8))
    np.save(path / "objects.npy", np.array([{}]), allow_pickle=True)
    (path / "text.npy").write_text("hello")
    (path / "text.png").write_text("hello")
    noise = np.random.default_rng(0).integers(256, size=(99, 99), dtype=np.uint8)
    Image.fromarray(noise).save(path / "whole.png")
    (path / "half.png").write_bytes((path / "whole.png").read_bytes()[:5000])
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(path / "deep.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "missing is not a folder: name a run directory"),
        (["bad"], "bad: all runs diverged; there is nothing to look at"),
        (["bad", "--run", "1"], "--run 1: diverged; leave out --run for the best"),
        (["sweep", "--run", "4"], "--run 4: must be from 0 to 3 here"),
        (["one", "--run", "1"], "--run 1: must be 0, the only run here"),
        (["sweep", "--run", "-1"], "--run -1: must be from 0 to 3 here"),
        (["one", "--split", "validation"], "--split validation: this run held nothing out"),
        (["one", "--out", "no"], "--out no: is not a folder"),
        (["one", "--predict", "no.png"], "--predict no.png: is not a file"),
        (["one", "--predict", "flat.npy"], "--predict flat.npy: has shape [64]; must be uint8 of "),
        (["one", "--predict", "none.npy"], "--predict none.npy: has shape [0, 8, 8, 1]; must be"),
        (["one", "--predict", "real.npy"], "--predict real.npy: is float64; must be uint8 of shap"),
        (["one", "--predict", "loud.npy"], "--predict loud.npy: has pixels up to 17; must be from"),
        (["one", "--predict", "objects.npy"], "--predict objects.npy: is not a .npy file of num"),
        (["one", "--predict", "text.npy"], "--predict text.npy: is not a .npy file of numbers"),
        (["one", "--predict", "text.png"], "--predict text.png: is neither an image nor a .npy"),
        (["one", "--predict", "half.png"], "--predict half.png: is a damaged image"),
        (["one", "--predict", "deep.png"], "--predict deep.png: has more than 8 bits per colour"),
    ],
    ids=lambda value: " ".join(value)[:30],
)
def test_what_cannot_be_is_refused_in_one_line(
    folder, tmp_path, standard, monkeypatch, capsys, arguments, message
):
    put(tmp_path)
    for name in ("one", "sweep", "bad"):
        (tmp_path / name).symlink_to(folder / name)
    monkeypatch.chdir(tmp_path)
    before = sorted(folder.rglob("*"))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def damaged(path, file, change):
    """Change a file; without the checksums nothing tells that somebody did."""
    (path / "manifest.sha256").unlink(missing_ok=True)
    value = read(path / file)
    change(value)
    (path / file).write_text(json.dumps(value))


def test_parameters_of_another_run_are_refused(folder, tmp_path, standard, capsys):
    """Of the same shape: nothing else tells that the accuracy is that of another network."""
    other = ["--steps", "20", "--validation", "0", "--test-examples", "300", "--seed", "1"]
    assert train_mlp([*other, "--out", str(tmp_path / "other")]) == 0
    copy = shutil.copytree(folder / "one", tmp_path / "copy")
    shutil.rmtree(copy / "parameters")
    shutil.copytree(tmp_path / "other" / "parameters", copy / "parameters")
    capsys.readouterr()
    assert main([str(copy)]) == 2
    assert capsys.readouterr().err == (
        f"error: {copy / 'parameters' / 'group-0001'} is of another run: put it back from a copy\n"
    )


def test_links_where_its_files_belong_are_not_followed(folder, tmp_path, standard):
    copy = shutil.copytree(folder / "one", tmp_path / "copy")
    (tmp_path / "precious").write_text("mine")
    names = ("evaluation.json", "evaluation.json.partial", "mistakes.png", "mistakes.png.partial")
    for name in names:
        (copy / name).symlink_to(tmp_path / "precious")
    assert main([str(copy)]) == 0
    assert (tmp_path / "precious").read_text() == "mine"
    assert read(copy / "evaluation.json")["examples"] == 300
    with Image.open(copy / "mistakes.png") as image:
        assert min(image.size) > 500


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(activation="exec"), "activation 'exec': is no value of this flag"),
        (lambda c: c.update(dropout=True), "dropout True: is no value of this flag"),
        (lambda c: c.update(dropout=1.5), "--dropout 1.5: must be at least 0 and below 1"),
        (lambda c: c.update(data_dir="a\0b"), "data_dir 'a\\x00b': is no value of this flag"),
        (lambda c: c.update(dataset="../x"), "dataset '../x': is no value of this flag"),
        (lambda c: c.update(extra=1), "'extra': there is no such flag"),
        (lambda c: c.pop("dataset"), "dataset: is missing"),
        (lambda c: c.update(runs=[]), '"runs" do not differ in the same flags'),
        (lambda c: c.update(runs=[{"seed": 1}, {}]), '"runs" do not differ in the same flags'),
        (lambda c: c["flags"].update(hidden=["6", "--distributed"]), "does not belong there"),
        (lambda c: c["flags"].update(resume="/tmp"), "resume '/tmp': does not belong there"),
        (lambda c: c["flags"].update(distributed=True), "'distributed': there is no such flag"),
    ],
)
def test_flags_of_a_file_are_held_to_those_of_the_command_line(
    folder, tmp_path, standard, capsys, change, words
):
    copy = shutil.copytree(folder / "one", tmp_path / "copy")
    damaged(copy, "config.json", change)
    capsys.readouterr()
    assert main([str(copy)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {copy / 'config.json'} is damaged: ")
    assert words in error
    assert error.count("\n") == 1


def test_a_flag_that_is_missing_does_not_go_with_the_results(folder, tmp_path, standard, capsys):
    copy = shutil.copytree(folder / "one", tmp_path / "copy")
    damaged(copy, "config.json", lambda c: c.pop("activation"))
    capsys.readouterr()
    assert main([str(copy)]) == 2
    assert capsys.readouterr().err == (
        f"error: {copy / 'summary.json'} is damaged: row 0 has a configuration that config.json "
        f"does not; remove it, and --resume makes it anew\n"
    )


def test_a_command_is_looked_up_and_never_imported(folder, tmp_path, standard, capsys, monkeypatch):
    (tmp_path / "planted.py").write_text("open('executed', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    copy = shutil.copytree(folder / "one", tmp_path / "copy")
    damaged(copy, "config.json", lambda c: c.update(command="planted"))
    assert main(["copy"]) == compare.main(["copy"]) == train_mlp(["--resume", "copy"]) == 2
    assert not (tmp_path / "executed").exists()


def unfinished(path):
    """What a run has that was killed before its end."""
    (path / "summary.json").unlink()
    (path / "manifest.sha256").unlink()


def test_a_run_that_does_not_go_with_what_is_here_is_refused(folder, tmp_path, standard, capsys):
    changes = {
        "unfinished": unfinished,
        "other data": lambda path: damaged(
            path, "config.json", lambda c: c.update(fingerprint="0")
        ),
        "other command": lambda path: damaged(
            path, "config.json", lambda c: c.update(command="sys")
        ),
        "unknown": lambda path: damaged(
            path, "config.json", lambda c: c.update(command="train.no")
        ),
        "unsaved": lambda path: shutil.rmtree(path / "parameters"),
        "flipped": lambda path: (path / "parameters/group-0001/notes.json").write_text("{}"),
    }
    messages = {
        "unfinished": "unfinished is not finished: it holds no summary.json",
        "other data": "other data was trained on another digits, with fingerprint 0, not",
        "other command": "other command: there is no command 'sys' here",
        "unknown": "unknown: there is no command 'train.no' here",
        "unsaved": "unsaved holds no parameters of run 0",
        "flipped": "'notes.json' does not have the checksum",
    }
    for name, change in changes.items():
        change(shutil.copytree(folder / "one", tmp_path / name))
        assert main([str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert messages[name] in error
        assert not (tmp_path / name / "evaluation.json").exists()
