"""Where the code of a user is, and which line of it is blamed."""

import functools
import hashlib
import sys
from pathlib import Path

import pytest

from jaxnets.layers import Flatten, Linear, serial
from train.custom_network import run_kind
from train.custom_network.source import UserError, blamed, imported, named, of_function
from train.errors import Refusal
from train.flags.config import Source, declared, replaced

CODE = """
import math

def net(classes):
    return other(classes)

def other(classes):
    raise ValueError("no\\nlines")

class Nets:
    small = staticmethod(lambda classes: 5)

number = 5
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder, of which nothing stays imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - before:
        del sys.modules[name]


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_function_of_a_file(here):
    (here / "nets_of_a_file.py").write_text(CODE)
    seen = []
    source, function = named("nets_of_a_file.py:net", seen.append)
    assert source == Source(f"{here}/nets_of_a_file.py:net", digest(CODE))
    assert seen == [source]
    assert function.__name__ == "net"
    assert of_function(function) == source
    assert named("nets_of_a_file.py:Nets.small")[1](3) == 5


def test_a_function_of_a_module_of_the_working_folder(here):
    (here / "package_of_nets").mkdir()
    (here / "package_of_nets" / "a.py").write_text(CODE)
    source, function = named("package_of_nets.a:net")
    assert source == Source("package_of_nets.a:net", digest(CODE))
    assert function.__module__ == "package_of_nets.a"


def test_a_file_may_be_called_as_a_library_and_finds_what_lies_beside_it(here):
    (here / "jax.py").write_text("from beside_it import number\n")
    (here / "beside_it.py").write_text("number = 7\n")
    library = sys.modules["jax"]
    assert imported("jax.py").number == 7
    assert sys.modules["jax"] is library
    assert sys.path[-1] == str(here)
    imported("jax.py")
    assert sys.path.count(str(here)) == 1


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("a.py", "a.py: must be FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, such as a.py:net"),
        ("a", "a: must be FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, such as net.py:net or pack"),
        (":net", ":net: must be FILE.py:FUNCTION"),
        ("a:", "a:: must be FILE.py:FUNCTION"),
        ("b.py:net", "b.py: there is no such file"),
        ("nets:ned", "nets:ned: nets has no ned; did you mean net?"),
        ("nets:number", "nets:number: is int, not a function"),
        ("netz:net", "netz:net: there is no module netz here or installed"),
        (
            "sub.one:net",
            "sub.one:net: there is no module sub.one here or installed; did you mean su",
        ),
    ],
)
def test_what_is_not_there_is_one_line(here, target, line):
    (here / "nets.py").write_text(CODE)
    (here / "sub").mkdir()
    (here / "sub" / "one.py").write_text("") if target != "sub.one:net" else None
    if target.startswith("sub"):
        (here / "sub.py").write_text("")  # Which hides the folder.
        (here / "sub" / "one.py").write_text(CODE)
    with pytest.raises(Refusal) as error:
        named(target)
    assert str(error.value).startswith(line)
    assert str(error.value).isprintable()


def test_a_check_comes_before_the_code_is_run(here):
    (here / "not_run.py").write_text("raise SystemExit(3)\n")

    def check(source):
        raise Refusal("checked")

    with pytest.raises(Refusal, match=r"^checked$"):
        named("not_run.py:net", check)
    with pytest.raises(UserError) as error:
        named("not_run.py:net")
    path = here / "not_run.py"
    assert str(error.value) == f"{path}:net: SystemExit: 3 ({path}, line 1)"


def test_the_last_line_of_the_users_code_is_blamed(here):
    (here / "blamed_nets.py").write_text(CODE)
    _, net = named("blamed_nets.py:net")
    with pytest.raises(UserError) as error, blamed("it"):
        net(3)
    assert str(error.value) == f"it: ValueError: no lines ({here}/blamed_nets.py, line 8)"
    with pytest.raises(UserError, match=r"^inner$"), blamed("it"):
        raise UserError("inner")
    (here / "no_python.py").write_text("x = 1\ndef\n")
    with pytest.raises(UserError) as error:
        named("no_python.py:net")
    assert str(error.value).endswith(f"SyntaxError: invalid syntax ({here}/no_python.py, line 2)")


def test_what_has_no_file_is_of_python():
    space = {}
    exec("def net(classes): pass", space)
    assert of_function(space["net"]) == Source("python:net", "")
    assert of_function(functools.partial(int)) == Source("python:partial", "")
    here = of_function(digest)
    assert here == Source(f"{__file__}:digest", digest(Path(__file__).read_text()))


# --- what makes a network ------------------------------------------------------------------------


def layer(classes, *, width: int = 3, bias: bool = True, rate: float = 0.5):
    """A network."""
    seen.append((classes, width, bias, rate))
    return serial(Flatten(), Linear(classes))


seen = []


class Numbers:
    own = None


def test_the_flags_are_given_to_the_function():
    own = run_kind(layer)
    assert own.name == "layer"
    assert own.kind.command == "train.custom"
    run = own.kind()
    own.network(run, Numbers(), 7)
    numbers = Numbers()
    numbers.own = {"rate": "traced"}
    own.network(run, numbers, 7)
    assert seen == [(7, 3, True, 0.5), (7, 3, True, "traced")]
    assert run_kind(layer) is own  # Runs share what was compiled for them.


def test_what_returns_no_layer_is_blamed():
    def number(classes):
        return classes

    own = run_kind(number)
    with pytest.raises(
        UserError, match=r"must return a jaxnets\.layers\.Layer, and returned built"
    ):
        own.network(own.kind(), Numbers(), 7)


def test_a_layer_is_a_network_without_flags():
    net = Linear(3)
    own = run_kind(net)
    assert own.kind.source.name == f"python:{net.name}"
    assert own.network(own.kind(), Numbers(), 7) is net
    assert vars(own.kind().network) == {}


def numbers(classes, *, rate: float = 0.5, size: float = 3.0):
    """Of the size an array is made, so it cannot be traced."""


@pytest.mark.parametrize("can", [{"rate", "size"}, {"rate"}, set()])
def test_numbers_are_traced_where_the_function_can_be_called_so(monkeypatch, can):
    asked = []

    class Trial:
        def __init__(self, name, build, shape, classes):
            asked.append((shape, classes))

        def traceable(self, runs, traced):
            assert traced == {"rate", "size"}
            return frozenset(can)

    monkeypatch.setattr("train.custom_network.trial.Trial", Trial)
    kind = run_kind(numbers).kind
    runs = [replaced(kind(), {"rate": rate, "seed": 7}) for rate in (0.25, 0.75)]
    found = kind.settled(runs, (4, 4, 1), 3)
    assert asked == [((4, 4, 1), 3)]
    assert [run.network.rate for run in found] == [0.25, 0.75]
    assert [run.training.seed for run in found] == [7, 7]
    traced = {name for name, flag in declared(type(found[0])).items() if flag.traced}
    assert traced & {"rate", "size"} == can
    assert (type(found[0]) is kind) == (len(can) == 2)
    again = kind.settled(runs, (4, 4, 1), 3)
    assert type(again[0]) is type(found[0])  # They share what was compiled for them.
