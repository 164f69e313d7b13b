"""The words of a command line: help, suggestions, and one line for each mistake."""

import dataclasses
import io
import itertools
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from train import COMMANDS, compare, convnet, custom, mlp
from train.__main__ import main as menu
from train.custom_network import run_kind
from train.data import __main__ as data
from train.data.sources import SOURCES
from train.errors import StoreError
from train.evaluate import __main__ as evaluate
from train.flags import terminal
from train.flags.command_line import read
from train.flags.config import Convnet, ConvnetRun, Mlp, MlpRun
from train.flags.given import with_several_values
from train.flags.options import declared
from train.flags.suggestions import ALIASES, ELSEWHERE, near
from train.processes import launch
from train.reproduce import __main__ as reproduce
from train.training.command import parse

ROOT = Path(__file__).parents[3]


def net(classes, *, width: int = 64, rate: float = 0.1):
    """The network that the examples of train.custom name."""


MAINS = {
    "train": menu,
    "train.mlp": mlp.main,
    "train.convnet": convnet.main,
    "train.custom": custom.main,
    "train.evaluate": evaluate.main,
    "train.compare": compare.main,
    "train.data": data.main,
    "train.reproduce": reproduce.main,
}
KINDS = {
    "train.mlp": with_several_values(MlpRun),
    "train.convnet": with_several_values(ConvnetRun),
    "train.custom": with_several_values(run_kind(net).kind),
    "train.evaluate": evaluate.Arguments,
    "train.compare": compare.Arguments,
    "train.data": {"prepare": data._Prepare, "show": data._Show},
    "train.reproduce": reproduce.Options,
}
PAGES = [*MAINS, "train.data prepare", "train.data show"]


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; return status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def said(command, *words):
        name, *first = command.split()
        try:
            status = MAINS[name]([*first, *words])
        except SystemExit as end:
            status = end.code
        return (status, *capsys.readouterr())

    return said


# --- mistakes ------------------------------------------------------------------------------------

MISTAKES = [
    ("train.mlp --lr 0.1", "--lr: there is no such flag; did you mean --learning-rate?"),
    ("train.mlp --LR=0.1", "--LR: there is no such flag; did you mean --learning-rate?"),
    ("train.mlp -lr 0.1", "-lr: there is no such flag; did you mean --learning-rate?"),
    ("train.convnet --wd 1", "--wd: there is no such flag; did you mean --weight-decay?"),
    ("train.convnet --bs 1", "--bs: there is no such flag; did you mean --batch-size?"),
    ("train.mlp -v", "-v: there is no such flag; did you mean --version?"),
    ("train.mlp -?", "-?: there is no such flag; did you mean --help?"),
    ("train.mlp --gpu", "--gpu: there is no such flag; the accelerator that JAX finds is used; "),
    ("train.mlp --architecture small", "--architecture: there is no such flag; python -m train.co"),
    ("train.convnet --norm batch", "--norm: there is no such flag; python -m train.mlp has it"),
    ("train.evaluate a --lr 1", "--lr: there is no such flag"),
    (
        "train.mlp help",
        "help: is neither a flag, nor a value of the flag before it; did you mean --",
    ),
    (
        "train.mlp mnist",
        "mnist: is neither a flag, nor a value of the flag before it; did you mean --dataset?",
    ),
    ("train.mlp --norm lauer", "--norm lauer: must be one of none, batch, layer, rms; did you mea"),
    ("train.mlp --missing median", "--missing median: must be mean\n"),
    # Commas for spaces, and for points.
    (
        "train.mlp --learning-rate 0.001,0.01",
        "--learning-rate 0.001,0.01: several values are separated by spaces: "
        "--learning-rate 0.001 0.01",
    ),
    (
        "train.mlp --learning-rate 0.001, 0.01",
        "--learning-rate 0.001,: several values are separated by spaces: "
        "--learning-rate 0.001 0.01",
    ),
    (
        "train.mlp --learning-rate [0.001, 0.01]",
        "--learning-rate [0.001,: several values are separated by spaces: "
        "--learning-rate 0.001 0.01",
    ),
    (
        "train.mlp --learning-rate 0,1 0,01",
        "--learning-rate 0,1: a decimal has a point: --learning-rate 0.1 0.01; several values are "
        "separated by spaces: --learning-rate 0 1 0 01",
    ),
    ("train.mlp --validation 0,1", "--validation 0,1: a decimal has a point: --validation 0.1"),
    ("train.mlp --seeds 1,000", "--seeds 1,000: a number has no commas: --seeds 1000"),
    ("train.mlp --seed 1,2", "--seed 1,2: takes one value"),
    (
        "train.mlp --optimizer adam,sgd",
        "--optimizer adam,sgd: several values are separated by spaces: --optimizer adam sgd",
    ),
    ("train.reproduce A1, E6", "experiment A1,: must be all, or one of A1, "),
    (
        "train.mlp --steps 1e3",
        "--steps 1e3: must be a whole number from 1 on, below 2^31; did you ",
    ),
    # Words that are left over.
    (
        "train.evaluate a --predict a.png b.png",
        "b.png: is one word too many; --predict takes one value: run the command once for each",
    ),
    (
        "train.evaluate --predict a.png b.png a",
        "b.png: is one word too many; --predict takes one value: run the command once for each",
    ),
    (
        "train.evaluate a b",
        "b: is one word too many; the command takes one RUN_DIR: run the command once for each",
    ),
    ("train.mlp --dry-run yes", "--dry-run yes: takes no value; give --dry-run alone, or leave it"),
    # Paths.
    ("train.compare a --out=", "--out: is empty; name a file or folder"),
    ("train.compare --out=", "--out: is empty; name a file or folder"),
    ("train.compare a --out .", "--out .: must end in .png, .pdf, .svg"),
    ("train.mlp --out=", "--out: is empty; name a file or folder"),
    ("train.mlp --out=~nobody_here/a", "--out ~nobody_here/a: there is no such user; write ./~ "),
    # Commands.
    ("train.evaluate", "RUN_DIR: is missing; python -m train.evaluate --help says what it is"),
    ("train.data prepare mnist", "--from: is missing; python -m train.data prepare --help says"),
    ("train.data", "needs one of prepare, show first; python -m train.data --help says more"),
    ("train.data shwo digits", "shwo: must be one of prepare, show; did you mean show?"),
    (
        "train evalute",
        "evalute: must be one of mlp, convnet, custom, evaluate, compare, data, reproduce; di",
    ),
    (
        "train sweep",
        "sweep: must be one of mlp, convnet, custom, evaluate, compare, data, reproduce; give a",
    ),
    ("train mlp --lr 1", "--lr: there is no such flag; did you mean --learning-rate?"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_answered_in_one_line_that_helps(said, line, message):
    status, output, errors = said(*line.split(" "))
    assert (status, output) == (2, "")
    assert errors.startswith(f"error: {message}")
    assert errors.count("\n") == 1


def test_experiments_in_a_row_are_shown_as_they_are_written(said):
    assert said("train.reproduce", "A1,E6")[2].endswith("; they are separated by spaces: A1 E6\n")
    assert reproduce.select(["a1", "A1", "e6"]) == reproduce.select(["A1", "E6"])
    assert len(reproduce.select(["A1", "all"])) == len(reproduce.select(["all"])) > 2


def test_a_directory_of_another_command_is_named_with_its_flag(said, tmp_path, monkeypatch):
    def of_a_convnet(folder, command, flag):
        raise StoreError(f"{flag} {folder}: seen")

    monkeypatch.setattr("train.run_directory.stored_config.stored", of_a_convnet)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").touch()
    assert said("train.mlp", "--out", "a")[2] == "error: --out a: seen\n"
    assert said("train.mlp", "--resume", "a")[2] == "error: --resume a: seen\n"


def test_what_is_meant_is_what_there_is():
    assert near("--lr", ["--l2", "--learning-rate"]) == "; did you mean --learning-rate?"
    assert near("--lr", ["--l2"]) == ""
    assert near("--layers", ["--architecture"]) == "; did you mean --architecture?"
    assert near("layernorm", ["layer_norm", "rms_norm"]) == "; did you mean layer_norm?"
    assert near("Adam", ["adam", "adamw"]) == "; did you mean adam?"
    assert near("leaky", ["relu", "leaky_relu"]) == "; did you mean leaky_relu?"
    assert near("see", ["seed", "seeds"]) == "; did you mean seed or seeds?"
    assert near("se", ["seed", "seeds", "search"]) == "; did you mean seed, seeds or search?"
    assert near("sea", ["seed", "seeds", "search"]) == "; did you mean search?"
    assert near("s", ["search"]) == ""  # One letter says too little.
    assert near("cpu", ["silu"]) == ""  # Advice is about flags.
    assert near("--cpu", ["--l2"]).startswith("; the accelerator that JAX finds is used")


def test_each_alias_leads_to_something_that_there_is():
    flags = {flag.name.lstrip("-") for name in ("train.mlp", "train.convnet", "train.evaluate",
             "train.reproduce") for flag in declared(KINDS[name])}  # fmt: skip
    choices = {str(c) for kind in (KINDS["train.mlp"], KINDS["train.convnet"])
               for flag in declared(kind) for c in flag.choices}  # fmt: skip
    ops = (ROOT / "jaxnets" / "ops" / "__init__.py").read_text()
    others = {
        "help",
        "version",
        "from",
        "shapes",
        "prepare",
        "check",
        "costs",
        "float64",
        "float16",
    }
    for alias, meant in ALIASES.items():
        assert alias == alias.casefold().replace("-", "").replace("_", "")
        for name in meant:
            assert name in flags | choices | others | {*COMMANDS, *SOURCES} or f'"{name}"' in ops, (
                alias
            )


def test_the_flags_of_one_network_alone_are_pointed_to():
    fields = {kind: {field.name for field in dataclasses.fields(kind)} for kind in (Mlp, Convnet)}
    for one, other, command in ((Mlp, Convnet, "mlp"), (Convnet, Mlp, "convnet")):
        for name in fields[one] - fields[other]:
            assert ELSEWHERE[name] == f"python -m train.{command} has it"


# Words that make sense somewhere, and some that never do.
BAG = [
    "mnist", "adam", "0.1", "0,1", "1e3", "-1", "nan", "inf", "--", "-", "---", "-1e5", "all",
    "A1", "prepare", "show", "check", "runs", "a,b", "é±", "{", "%s", "''", "--learning-rate",
    "--lr", "--hidden", "--seeds", "--out", "--predict", "--run", "--from", "--dtype",
    "--shapes", "-n3", "~", "~x/y", "--steps=3", "--dry-run=1", "--test-curve", "--no-quick",
    "--name=", "--=3", "/dev/null", "..", "", " ", "\n", "--\t", "\udcff", "\x1b[31m",
    "9" * 5000, "--" + "x" * 5000,
]  # fmt: skip


def test_two_hundred_lines_of_nonsense_are_refused_in_one_line_each(said):
    generator = random.Random(4)
    for _ in range(200):
        command = generator.choice(PAGES)
        words = [generator.choice(BAG) for _ in range(generator.randrange(6))]
        words.insert(generator.randrange(len(words) + 1), f"--q{generator.choice(BAG)}")
        status, output, errors = said(command, *words)
        assert (status, output) == (2, ""), (command, words)
        assert errors.startswith("error: "), (command, words)
        assert errors.endswith("\n"), (command, words)
        assert errors[:-1].isprintable(), (command, words)
        assert len(errors) < 1500, (command, words)


# --- help ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_help_fits_and_ends_with_three_examples(said, monkeypatch, page):
    status, text, errors = said(page, "--help")
    assert (status, errors) == (0, "")
    assert said(page, "-h")[1] == text
    lines = text.splitlines()
    assert lines[0].startswith(f"usage: python -m {page} ")
    assert max(map(len, lines)) <= 80
    assert "(default: )" not in " ".join(text.split())
    *_, title, first, second, third = lines
    assert title == "Examples:"
    for example in (first, second, third):
        assert example.startswith("  python -m train.")
        name, *words = example.split()[2:]
        if name == "train.custom":
            assert words.pop(0) == "net.py:net"
        assert read(KINDS[name], words, "prog", "") is not None
    monkeypatch.setenv("COLUMNS", "50")
    narrow = said(page, "--help")[1].partition("Examples:")[0]
    assert max(map(len, narrow.splitlines())) <= 80  # A word is never broken.


@pytest.mark.parametrize("command", ["train.mlp", "train.convnet"])
def test_help_breaks_a_line_only_where_it_is_full(said, command):
    lines = said(command, "--help")[1].splitlines()
    texts = 0
    for line, following in itertools.pairwise(lines):
        if all(text.startswith(" " * 8) and text[8] != " " for text in (line, following)):
            texts += 1
            assert len(line) + 1 + len(following.split()[0]) > 78, line
    assert texts > 30
    assert "in the first 0.3 of the steps" in " ".join(" ".join(lines).split())


@pytest.mark.parametrize("page", ["train.mlp", "train.evaluate", "train.data show"])
def test_help_is_coloured_on_a_terminal_that_wants_it(said, monkeypatch, page):
    assert "\x1b" not in said(page, "--help")[1]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b" in said(page, "--help")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in said(page, "--help")[1]


@pytest.mark.parametrize("page", PAGES)
def test_the_version_is_told(said, page):
    status, output, errors = said(page, "--version")
    assert (status, errors) == (0, "")
    assert output.startswith("jaxnets")
    assert output.count("\n") == 1


def test_without_a_command_they_are_listed(said):
    status, output, errors = said("train")
    assert (status, errors) == (0, "")
    for name in COMMANDS:
        _, _, described = output.partition(f"\n  {name}")
        summary = MAINS[f"train.{name}"].__globals__["__doc__"].split()
        assert described.split()[: len(summary[:4])] == summary[:4]


# --- modules that are no command -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "package", "line"),
    [
        (["-m", "train.sweep", "--help"], "train", "python -m train.sweep: is no command; "),
        (["-W", "ignore", "-Bmtrain.mpl"], "train", "python -m train.mpl: is no command; "),
        (["-m", "jaxnets.ops", "x"], "jaxnets", "python -m jaxnets.ops: is no command; "),
        (["-m", "train.mlp", "--help"], "train", None),
        (["-m", "train"], "train", None),
        (["-m", "jaxnets", "check"], "jaxnets", None),
        (["-m", "jaxnets", "-m", "train.x"], "train", None),
        (["-m", "somebodys", "train.sweep"], "train", None),
    ],
)
def test_only_commands_are_run(monkeypatch, capsys, words, package, line):
    answered = []
    monkeypatch.setattr(launch, "answer_at_once", lambda: answered.append(True))
    behind = next(i for i, word in enumerate(words) if word.startswith(("-m", "-Bm")))
    rest = words[behind + (2 if words[behind] == "-m" else 1) :]
    monkeypatch.setattr(sys, "argv", ["-m", *rest])
    monkeypatch.setattr(sys, "orig_argv", ["python", *words])
    if line is None:
        launch.launched(package, COMMANDS)
        assert capsys.readouterr() == ("", "")
        ours = words[1].partition(".")[0] == package
        assert answered == [True] * ours  # Another's process keeps its signals.
        return
    with pytest.raises(SystemExit) as end:
        launch.launched(package, COMMANDS)
    assert end.value.code == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(f"error: {line}python -m {package} --help lists those there are")
    assert errors.count("\n") == 1
    if "train.mpl" in words[-1]:
        assert errors.endswith("; did you mean mlp?\n")


def called(*words, **options):
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize("module", ["train.sweep", "jaxnets.check"])
def test_a_module_that_is_no_command_is_answered(tmp_path, module):
    process = called(module, "--help", cwd=tmp_path)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (2, "")
    assert errors.startswith(f"error: python -m {module}: is no command; ")
    assert errors.count("\n") == 1


# --- what the output can show --------------------------------------------------------------------


def test_signs_that_cannot_be_encoded_are_replaced(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    terminal.set_up()
    print("0.98 ± 0.01 · 3 µs … ─ ö \udcff", flush=True)
    assert written.getvalue() == b"0.98 +- 0.01 . 3 us ... - ? \\udcff\n"
    sys.stdout.detach()


def test_a_reader_that_leaves_ends_a_command_in_silence(tmp_path):
    process = called("train.reproduce", cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 128 + signal.SIGPIPE
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_reader_that_leaves_a_training_command_is_spoken_of(said, monkeypatch):
    left = []

    def closed(*_):
        error = BrokenPipeError(32, "Broken pipe")
        error.add_note("resume with: python -m train.mlp --resume a")
        raise error

    monkeypatch.setattr("train.training.command._run", closed)
    monkeypatch.setattr(terminal, "leave_closed_pipe", lambda: left.append(True))
    status, output, errors = said("train.mlp")
    assert (status, output, left) == (128 + signal.SIGPIPE, "", [True])
    assert errors == (
        "the reader of standard output has left; resume with: python -m train.mlp --resume a\n"
    )


def test_of_a_flag_that_is_given_twice_the_later_counts():
    words = ["--steps", "9", "--hidden", "3", "4", "--out", "a", "--hidden", "5", "--out=b"]
    (parsed,) = parse(MlpRun, [*words, "--steps=7"], "prog", "").runs
    assert parsed.training.steps == 7
    assert parsed.network.hidden == "5"
    assert parsed.output.out == Path("b")


def test_a_tilde_is_the_home_folder(said, tmp_path):
    words = ["--out=~/a", "--data-dir", "~/b"]
    (parsed,) = parse(MlpRun, words, "prog", "").runs
    assert parsed.output.out == tmp_path / "home" / "a"
    assert parsed.data.data_dir == tmp_path / "home" / "b"
    chosen = read(evaluate.Arguments, ["~/a", "--predict=~/x.png", "--out=~/o"], "prog", "")
    home = tmp_path / "home"
    assert chosen[0] == home / "a"
    assert chosen.predict == home / "x.png"
    assert chosen.out == home / "o"
