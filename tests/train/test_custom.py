"""`train.custom`: a network of one's own from its file to its evaluation."""

import json
import shutil

import jax
import pytest

from train import compare, custom, mlp
from train.custom_network import named, run_kind
from train.evaluate import __main__ as evaluate
from train.runs import load
from train.training import job
from train.training.command import parse

pytestmark = pytest.mark.slow

NET = '''
from jaxnets.layers import Dropout, Flatten, Layer, LeakyRelu, Linear, serial


def net(classes, *, width: int = 4, rate: float = 0.1, slope: float = 0.1) -> Layer:
    """Two layers."""
    return serial(Flatten(), Linear(width), Dropout(rate), LeakyRelu(slope), Linear(classes))


def forked(classes, *, rate: float = 0.1, slope: float = 0.1) -> Layer:
    """Its rate decides about its layers, so it cannot be traced."""
    layers = [Dropout(rate)] if rate > 0.05 else []
    return serial(Flatten(), *layers, Linear(4), LeakyRelu(slope), Linear(classes))


def raises(classes, *, width: int = 4):
    return {}["width"]


def no_layer(classes):
    return classes


def too_many(classes):
    return serial(Flatten(), Linear(classes + 1))


def stateful(classes):
    layer = serial(Flatten(), Linear(classes))
    return layer._replace(apply=lambda p, s, x, **rest: (layer.apply(p, s, x)[0], {"n": x}))
'''
QUICK = ["--steps", "6", "--eval-every", "3", "--train-examples", "400", "--test-examples", "50"]


@pytest.fixture
def net(here):
    (here / "net.py").write_text(NET)
    return here / "net.py"


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A run directory, and beside it the code of its network."""
    folder = tmp_path_factory.mktemp("once")
    (folder / "net.py").write_text(NET)
    words = [f"{folder}/net.py:net", *QUICK, "--rate", "0.1", "0.5", "--out", f"{folder}/run"]
    with jax.numpy_dtype_promotion("standard"):
        assert custom.main(words) == 0
    return folder


@pytest.fixture
def trained(once, here):
    shutil.copytree(once, here, dirs_exist_ok=True)
    return here / "run"


def refusal(capsys, main, *words):
    assert main(list(words)) == 2
    _, errors = capsys.readouterr()
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    return errors.removeprefix("error: ").rstrip("\n")


def test_it_trains_compares_evaluates_and_resumes(once, trained, capsys):
    config = json.loads((trained / "config.json").read_text())
    assert config["command"] == "train.custom"
    assert config["network"]["function"] == f"{once / 'net.py'}:net"
    assert config["network"]["keywords"] == ["width", "rate", "slope"]
    assert [run["rate"] for run in config["runs"]] == [0.1, 0.5]
    assert compare.main(["run"]) == 0
    assert evaluate.main(["run", "--network", "net.py:net", "--run", "1"]) == 0
    found = json.loads((trained / "evaluation.json").read_text())["accuracy"]
    rows = json.loads((trained / "summary.json").read_text())["rows"]
    (row,) = (row for row in rows if row["config"]["rate"] == 0.5)
    assert found == row["test_accuracy"]["final"]["values"][0]
    capsys.readouterr()
    assert custom.main(["net.py:net", "--resume", "run"]) == 0


def test_a_run_directory_is_never_a_reason_to_import_code(once, trained, capsys):
    trained.with_name("net.py").write_text("raise SystemExit('it was imported')")
    line = refusal(capsys, evaluate.main, "run")
    assert line == (
        "run was trained with code, which is run only where you name it: add --network "
        f"{once / 'net.py'}:net"
    )
    with pytest.raises(ValueError, match="which is run only where you name it"):
        load(trained)[0]
    line = refusal(capsys, evaluate.main, "run", "--network", "net.py:net")
    assert "whose source has changed since: put it back as it was" in line


def test_another_source_function_or_command_is_refused(once, trained, capsys):
    file = trained.with_name("net.py")
    line = refusal(capsys, custom.main, "net.py:forked", "--resume", "run")
    assert line == f"run is a run of {once / 'net.py'}:net, not of {file}:forked"
    line = refusal(capsys, custom.main, "net.py:net", "--resume", "run", "--rate", "0.1")
    assert line.startswith("run is a run with --rate 0.1 0.5 (here 0.1)")
    assert "is a run of python -m train.custom" in refusal(capsys, mlp.main, "--resume", "run")
    file.write_text(NET + "\n")
    line = refusal(capsys, custom.main, "net.py:net", "--resume", "run")
    assert "whose source has changed since" in line
    file.write_text(NET)
    file.rename(file.with_name("moved.py"))
    assert evaluate.main(["run", "--network", "moved.py:net"]) == 0
    assert load(trained, network="moved.py:net")[0].predict_proba([[[[0]] * 8] * 8]).shape == (
        1,
        10,
    )


def test_real_numbers_are_one_program_where_the_function_allows_it(net):
    def groups(target):
        source, function = named(target)
        kind = run_kind(function, source).kind
        words = ["--rate", "0", "0.1", "0.2", "--slope", "0.1", "0.3", "--steps", "6"]
        return job.check(parse(kind, words, "prog", None), "net").groups

    (together,) = groups("net.py:net")
    assert len(together.readers) == 6
    found = groups("net.py:forked")  # The slope is traced, the rate is not.
    assert [len(group.readers) for group in found] == [2, 2, 2]
    assert sorted(group.shape.network.rate for group in found) == [0, 0.1, 0.2]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("raises", "KeyError: 'width' ({file}, line 17)"),
        ("no_layer", "must return a jaxnets.layers.Layer, and returned builtins.int; of a module"),
        ("too_many", "output_shape of init is [11], and must be [10]: a number for each of the 10"),
        ("stateful", "apply must return a state like that of init"),
        ("nte", "net.py has no nte; did you mean net?"),
    ],
)
def test_a_function_that_fails_is_blamed_in_one_line(net, capsys, function, said):
    line = refusal(capsys, custom.main, f"net.py:{function}", *QUICK, "--out", "run")
    assert said.format(file=net) in line
    assert not net.with_name("run").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("def net(", "SyntaxError: '(' was never closed ({file}, line 1)"),
        ("\nimport nowhere_at_all", "No module named 'nowhere_at_all' ({file}, line 2)"),
        ("1 / 0", "ZeroDivisionError: division by zero ({file}, line 1)"),
        ("net = 3", "net.py:net: is int, not a function"),
        ("raise SystemExit(0)", "SystemExit: 0 ({file}, line 1)"),
    ],
)
def test_a_file_that_cannot_be_imported_is_blamed_in_one_line(net, capsys, content, said):
    net.write_text(content)
    assert said.format(file=net) in refusal(capsys, custom.main, "net.py:net", *QUICK)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name the network first, FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION"),
        (["--steps", "3"], "name the network first"),
        (
            ["net.py"],
            "net.py: must be FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, such as net",
        ),
        (["none.py:net"], "none.py: there is no such file"),
        (["nowhere_at_all:net"], "there is no module nowhere_at_all here or installed"),
        (["net.py:net", "--l2", "-1"], "--l2 -1.0: must be not negative"),
    ],
)
def test_words_that_name_no_network_are_refused(net, capsys, words, said):
    assert said in refusal(capsys, custom.main, *words)


def test_a_module_of_the_working_folder_is_found(net, capsys):
    net.rename(net.with_name("module_of_mine.py"))
    assert custom.main(["module_of_mine:net", *QUICK, "--out", "run"]) == 0
    assert evaluate.main(["run", "--network", "module_of_mine:net"]) == 0


# --- modules of other libraries ------------------------------------------------------------------

MODULES = {
    "linen": """
import flax.linen as nn
from jaxnets.adapters import from_linen
from jaxnets.layers import Layer


class Net(nn.Module):
    width: int
    classes: int

    @nn.compact
    def __call__(self, x, training):
        x = nn.Dense(self.width)(x.reshape(len(x), -1))
        x = nn.relu(nn.BatchNorm(use_running_average=not training, momentum=0.5)(x))
        return nn.Dense(self.classes)(nn.Dropout(0.1, deterministic=not training)(x))


def net(classes, *, width: int = 8) -> Layer:
    return from_linen(Net(width, classes))
""",
    "nnx": """
from flax import nnx
from jaxnets.adapters import from_nnx
from jaxnets.layers import Layer


class Net(nnx.Module):
    def __init__(self, width, classes, rngs):
        self.first = nnx.Linear(64, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.5, rngs=rngs)
        self.last = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.norm(self.first(x.reshape(len(x), -1)))))


def net(classes, *, width: int = 8) -> Layer:
    return from_nnx(Net, width, classes)
""",
    "equinox": """
import equinox as eqx
from jaxnets.adapters import from_equinox
from jaxnets.layers import Flatten, Layer, serial


def net(classes, *, width: int = 8) -> Layer:
    return serial(Flatten(), from_equinox(eqx.nn.MLP, 64, classes, width, 1))
""",
}


@pytest.mark.parametrize("library", MODULES)
def test_a_module_of_another_library_is_trained_and_evaluated(here, library):
    (here / "net.py").write_text(MODULES[library])
    words = ["net.py:net", "--steps", "60", "--eval-every", "60", "--learning-rate", "0.02"]
    assert custom.main([*words, "--out", "run"]) == 0
    (row,) = json.loads((here / "run" / "summary.json").read_text())["rows"]
    assert row["test_accuracy"]["final"]["mean"] > 0.7
    assert evaluate.main(["run", "--network", "net.py:net"]) == 0
    found = json.loads((here / "run" / "evaluation.json").read_text())["accuracy"]
    assert found == row["test_accuracy"]["final"]["mean"]


def test_l2_that_would_count_nothing_is_refused(here, capsys):
    (here / "net.py").write_text(MODULES["linen"])
    line = refusal(capsys, custom.main, "net.py:net", *QUICK, "--l2", "0.1")
    assert '--l2 0.1 counts the parameters called "weight", and there are none' in line
