"""The flags of a command: those of a class or a function with type hints, which tyro reads."""

import inspect
import typing
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from train.flags.constraints import option
from train.flags.declaration import Allowed, Flag

DataDir = typing.Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="DIR",
        help="Folder of the prepared data sets.",
        help_behavior_hint="(default: $TFDS_DATA_DIR, else ~/tensorflow_datasets)",
    ),
]

REGISTRY = ConstructorRegistry()


@REGISTRY.primitive_rule
def _path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    """Read a path; a shell leaves the ~ of --out=~/run as it is."""
    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: Path(words[0]).expanduser(),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


def make(kind: Any, words: Sequence[str], prog: str) -> Any:
    """Return what a class or a function makes of the words of a command line, by tyro."""
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone)
    return tyro.cli(kind, args=words, prog=prog, description="", config=config, registry=REGISTRY)


class Option(NamedTuple):
    """A flag as it is written on the command line, or a positional argument.

    Attributes:
        field: the name of the field that it sets.
        name: such as --learning-rate; of a positional argument its name in the help.
        types: what its value may be.
        choices: words that its value may be.
        several: whether it takes several values.
        positional: whether it is a positional argument.
        required: whether it has no default.
        allowed: its values, where these are not all of its types.
    """

    field: str
    name: str
    types: tuple[type, ...]
    choices: tuple[Any, ...]
    several: bool
    positional: bool
    required: bool
    allowed: Allowed | None = None

    @property
    def switch(self) -> bool:
        """Whether it takes no value."""
        return bool in self.types

    @property
    def numeric(self) -> bool:
        """Whether its value is a number."""
        return bool({int, float} & {*self.types})


def declared(kind: Any) -> list[Option]:
    """Return the flags of a class or a function, in their order."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = []
    for name, parameter in inspect.signature(kind).parameters.items():
        hint, notes = hints[name], list[Any]()
        if typing.get_origin(hint) is typing.Annotated:
            hint, *notes = typing.get_args(hint)
        if hasattr(hint, "__dataclass_fields__"):
            found += declared(hint)
        elif tyro.conf.Suppress not in notes:
            found.append(_flag(name, hint, notes, parameter.default is inspect.Parameter.empty))
    return found


def _flag(field: str, hint: Any, notes: Sequence[Any], required: bool) -> Option:
    def noted(what: str) -> str | None:
        return next((v for v in (getattr(note, what, None) for note in notes) if v), None)

    positional = tyro.conf.Positional in notes
    several = typing.get_origin(hint) is tuple
    if several:
        hint = typing.get_args(hint)[0]
    parts = [hint] if isinstance(hint, type) else [*typing.get_args(hint)]
    if typing.get_origin(hint) is Literal:
        parts = [hint]
    choices = [c for part in parts if typing.get_origin(part) is Literal for c in _choices(part)]
    types = tuple(part for part in parts if isinstance(part, type) and part is not NoneType)
    name = (noted("metavar") or field.upper()) if positional else option(noted("name") or field)
    allowed = next((note.allowed for note in notes if isinstance(note, Flag)), None)
    return Option(field, name, types, tuple(choices), several, positional, required, allowed)


def _choices(literal: Any) -> tuple[Any, ...]:
    return typing.get_args(literal)
