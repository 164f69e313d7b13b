"""Where the code of a user is: found by its name, imported, and blamed for what it raises."""

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from train.errors import Refusal, reason
from train.flags.config import Source
from train.flags.suggestions import near
from train.flags.terminal import shortened

# What is not the code of a user: this project, Python, and what is installed.
_LIBRARIES = tuple(
    str(Path(str(path)).resolve())
    for path in (
        Path(__file__).parents[2] / "train",
        Path(__file__).parents[2] / "jaxnets",
        *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
    )
)


class UserError(Refusal):
    """One line: what the code of a user raised, in which file and line."""


@contextlib.contextmanager
def blamed(name: str) -> Iterator[None]:
    """Turn what the code of a user raises into a `UserError`.

    Args:
        name: of the code, as messages show it.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{name}: {_said(error)}") from error


def _said(error: BaseException) -> str:
    """Return an exception on one line, with the last line of a user's code that it went through."""
    if isinstance(error, SyntaxError):
        where = [(error.filename, error.lineno)] if error.filename else []
        text = error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        where = [(frame.filename, frame.lineno) for frame in frames if _is_users(frame.filename)]
        text = str(error)
    said = type(error).__name__ + (f": {reason(text)}" if text else "")
    return f"{said} ({where[-1][0]}, line {where[-1][1]})" if where else said


def _is_users(file: str) -> bool:
    inside = any(Path(library) in Path(file).resolve().parents for library in _LIBRARIES)
    return not file.startswith("<") and not inside


def named(
    target: str, check: Callable[[Source], None] = lambda source: None
) -> tuple[Source, Callable[..., Any]]:
    """Import a function by its name.

    Args:
        target: FILE.py:FUNCTION, or PACKAGE.MODULE:FUNCTION of the working folder or installed.
        check: is called with where the code is before it is imported, and may raise.

    Returns:
        Where it is, and the function.

    Raises:
        Refusal: there is no such file, module or function.
        UserError: the code raises while it is imported.
    """
    place, _, attribute = target.rpartition(":")
    if not place or not attribute:
        example = f"{target}:net" if target.endswith(".py") else "net.py:net or package.module:net"
        raise Refusal(
            f"{shortened(target)}: must be FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, such as "
            f"{example}"
        )
    if place.endswith(".py"):
        path = Path(place).expanduser().absolute()
        if not path.is_file():
            raise Refusal(f"{shortened(place)}: there is no such file")
        source = Source(f"{path}:{attribute}", _digest(path))
    else:
        source = Source(target, _digest(_file_of_module(place, attribute)))
    check(source)
    with blamed(source.name):
        module = imported(place)
    function: Any = module
    for part in attribute.split("."):
        if not hasattr(function, part):
            raise Refusal(f"{target}: {place} has no {part}{near(part, dir(function))}")
        function = getattr(function, part)
    if not callable(function):
        raise Refusal(f"{target}: is {type(function).__name__}, not a function")
    return source, function


def of_function(function: Callable[..., Any]) -> Source:
    """Return where a function of a running program is."""
    name = str(getattr(function, "__qualname__", type(function).__name__))
    try:
        file = inspect.getsourcefile(function) or ""
    except TypeError:
        return Source(f"python:{name}", "")
    if Path(file).is_file():
        return Source(f"{Path(file).absolute()}:{name}", _digest(file))
    try:  # Of a notebook: each cell is a file that is nowhere.
        text = inspect.getsource(function)
    except OSError:
        return Source(f"python:{name}", "")
    return Source(f"python:{name}", hashlib.sha256(text.encode()).hexdigest())


def _digest(file: str | Path) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if Path(file).is_file() else ""


def imported(place: str) -> ModuleType:
    """Import FILE.py, which finds the modules beside it, or a module of the working folder."""
    if not place.endswith(".py"):
        _find_in(Path.cwd())
        return importlib.import_module(place)
    path = Path(place).expanduser().absolute()
    # A name that nothing else has: a file may be called jax.py or train.py.
    unique = path.stem if path.stem not in sys.modules else f"{path.stem} of {path}"
    spec = importlib.util.spec_from_file_location(unique, path)
    assert spec is not None  # By its suffix it is one of Python.
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module  # Where dataclasses and gradcheck look for it.
    _find_in(path.parent)
    spec.loader.exec_module(module)
    return module


def _file_of_module(name: str, attribute: str) -> str:
    """Return the file of a module, whose packages are imported."""
    _find_in(Path.cwd())
    try:
        with blamed(f"{name}:{attribute}"):
            spec = importlib.util.find_spec(name)
    except UserError as error:
        if not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        spec = None
    if spec is None:
        file = Path(*name.split(".")).with_suffix(".py")
        hint = f"; did you mean {file}:{attribute}?" if file.is_file() else ""
        raise Refusal(f"{name}:{attribute}: there is no module {name} here or installed{hint}")
    return spec.origin or ""


def _find_in(folder: Path) -> None:
    """Let modules of a folder be found, after all others, which they may have the name of."""
    if str(folder) not in sys.path and not (folder == Path.cwd() and "" in sys.path):
        sys.path.append(str(folder))
