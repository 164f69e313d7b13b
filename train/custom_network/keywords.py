"""The keywords of a function as flags."""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from train.custom_network.source import blamed
from train.errors import ConfigError
from train.flags.config import Lockstep, Machines, Own, Run, parts
from train.flags.constraints import check_value, option
from train.flags.declaration import FINITE, Allowed, Flag

WHOLE = Allowed(lambda n: abs(n) < 2**63, "a whole number of less than 64 bits")
REAL = Allowed(FINITE.test, "a finite number")

# A switch cannot be swept, and cannot be turned off: the two words can.
TRUTH = {"true": True, "false": False}

# What else config.json and the tables of results have a name for.
_TAKEN = {
    "help", "version", "command", "network", "flags", "runs", "before", "fingerprint", "run",
    "step", "epoch", "seconds", "parameters", "diverged", "stopped", "kept", "classes",
}  # fmt: skip

_TYPES = "int, float, str, bool, Literal[...] of texts or whole numbers, or one of these | None"


class Keyword(NamedTuple):
    """A keyword of a function.

    Attributes:
        hint: the type of its flag.
        default: of the flag.
        flag: what else is known of it.
        truth: whether its values stand for True and False.
    """

    hint: Any
    default: Any
    flag: Flag
    truth: bool = False

    def annotated(self, help_: str, traced: bool) -> Any:
        """Return the annotation of a field for it."""
        hint: Any = Annotated[self.hint, dataclasses.replace(self.flag, traced=traced)]
        if self.default is None:
            hint = Annotated[
                hint, tyro.conf.arg(help=help_, help_behavior_hint="(default: not given)")
            ]
        elif help_:
            hint = Annotated[hint, tyro.conf.arg(help=help_)]
        return hint


def keywords(name: str, function: Callable[..., Any]) -> dict[str, Keyword]:
    """Return the keywords of a function by their name.

    Args:
        name: of the function, as messages show it.
        function: `(classes, *, width: int = 64, rate: float = 0.1)`.

    Raises:
        ConfigError: it does not take the number of classes, or a keyword cannot be a flag.
        UserError: an annotation cannot be evaluated.
    """
    try:
        with blamed(name):
            signature = inspect.signature(function, eval_str=True)
    except ValueError as error:
        raise ConfigError(f"{error}: its keywords cannot be read") from None
    parameters = [*signature.parameters.values()]
    first, rest = parameters[:1], parameters[1:]
    if not first or first[0].kind in (first[0].KEYWORD_ONLY, first[0].VAR_KEYWORD):
        raise ConfigError(f"{name}{signature}: must take the number of classes first")
    return {parameter.name: _keyword(name, parameter) for parameter in rest}


def _keyword(function: str, parameter: inspect.Parameter) -> Keyword:
    """Return a keyword, or raise a `ConfigError` that says why it cannot be a flag."""
    name, default, said = parameter.name, parameter.default, f"{function}: {parameter}"
    if parameter.kind not in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
        raise ConfigError(f"{said}: must be a keyword with a name, a type and a default")
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9]*(_[a-zA-Z0-9]+)*", name):
        raise ConfigError(f"{said}: must have a name of a-z, A-Z, 0-9 and single _ inside")
    taken = _taken()
    if name in taken:
        raise ConfigError(f"{said}: {option(name)} is taken; call the keyword otherwise")
    if default is parameter.empty:
        raise ConfigError(f"{said}: needs a default, which its flag has")
    if parameter.annotation is parameter.empty:
        raise ConfigError(f"{said}: needs a type, such as {name}: int = 64; one of {_TYPES}")
    found = _typed(parameter.annotation, default)
    if found is None:
        raise ConfigError(f"{said}: its type must be {_TYPES}")
    hint, default, flag = found
    if not _fits(hint, default):
        raise ConfigError(f"{said}: the default is not of that type")
    if isinstance(default, str) and default.startswith("-"):
        raise ConfigError(f"{said}: the default must not begin with a dash, as flags do")
    try:
        check_value(name, default, {name: flag})
    except ConfigError as error:
        raise ConfigError(f"{function}: {error}") from None
    return Keyword(hint, default, flag, bool in (parameter.annotation, *_parts(parameter)))


def _parts(parameter: inspect.Parameter) -> tuple[Any, ...]:
    return typing.get_args(parameter.annotation)


def _taken() -> Collection[str]:
    """Return the names that other flags and results have."""
    shared = [part for name, part in parts(Run).items() if name != "network"]
    fields = [field.name for p in (*shared, Lockstep, Machines) for field in dataclasses.fields(p)]
    return {*fields, *_TAKEN}


def _typed(annotation: Any, default: Any) -> tuple[Any, Any, Flag] | None:
    """Return the hint, default and declaration of a flag; None for a type that is none."""
    origin, choices = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        inner = [part for part in choices if part is not types.NoneType]
        found = _typed(inner[0], default) if len(inner) == 1 < len(choices) else None
        return found and (found[0] | None, *found[1:])
    if annotation is bool:
        words = {value: word for word, value in TRUTH.items()}
        word = words[default] if isinstance(default, bool) else default
        return Literal["true", "false"], word, Flag()
    if annotation is int:
        return int, default, Flag(WHOLE)
    if annotation is float:
        real = float(default) if type(default) is int else default
        return float, real, Flag(REAL, law="uniform", traced=True)
    if annotation is str:
        return str, default, Flag()
    words_or_numbers = all(
        type(choice) is int or (type(choice) is str and re.fullmatch(r"[^-].*", choice))
        for choice in choices
    )
    if origin is Literal and words_or_numbers:
        return annotation, default, Flag()
    return None


def _fits(hint: Any, default: Any) -> bool:
    """Whether a default is of the type of its flag."""
    if typing.get_origin(hint) is Literal:
        return any(type(c) is type(default) and c == default for c in typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return default is None or any(_fits(part, default) for part in typing.get_args(hint))
    return type(default) is hint


def network_class(
    name: str, found: Mapping[str, Keyword], about: str, traced: Collection[str]
) -> type[Own]:
    """Return a dataclass with a field for each keyword.

    Args:
        name: of the function.
        found: its keywords.
        about: its docstring.
        traced: the numbers in which the runs of one compiled program may differ.
    """
    text, helps = described(about)
    fields = [
        (key, keyword.annotated(helps.get(key, ""), key in traced), keyword.default)
        for key, keyword in found.items()
    ]
    namespace = {"__doc__": text or f"The network {name}.", "__module__": __name__}
    made: type[Own] = dataclasses.make_dataclass(
        "OwnNetwork", fields, bases=(Own,), namespace=namespace, frozen=True
    )
    return made


def described(docstring: str) -> tuple[str, dict[str, str]]:
    """Return what a docstring says before its sections, and of each argument, in Google's style."""
    before, _, arguments = f"\n{docstring}\n".partition("\nArgs:\n")
    text = re.split(r"\n[A-Z][a-z]+:\n", before)[0].strip()
    helps: dict[str, str] = {}
    name = ""
    for line in arguments.splitlines():
        if line and not line.startswith(" "):
            break
        if match := re.match(r" {1,4}(\w+)(?: \([^)]*\))?: *(.*)", line):
            name, helps[match[1]] = match[1], match[2].strip()
        elif name and line.strip():
            helps[name] += f" {line.strip()}"
    return text, helps
