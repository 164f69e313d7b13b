"""Neural networks in JAX whose gradients are written out by hand and checked against autodiff."""

import importlib
from importlib import metadata as _metadata
from typing import TYPE_CHECKING, Any

from jaxnets import _launch as _launch

if TYPE_CHECKING:
    from jaxnets import adapters, initializers, layers, nets, ops
    from jaxnets._audit import audit
    from jaxnets._autodiff import autodiff
    from jaxnets._costs import costs
    from jaxnets._gradcheck import GradCheck, gradcheck

__all__ = [
    "GradCheck",
    "adapters",
    "audit",
    "autodiff",
    "costs",
    "gradcheck",
    "initializers",
    "layers",
    "nets",
    "ops",
]

# Imported where they are used: JAX takes a second, and a mistake in a command is answered before.
_FUNCTIONS = {
    "GradCheck": "_gradcheck",
    "audit": "_audit",
    "autodiff": "_autodiff",
    "costs": "_costs",
    "gradcheck": "_gradcheck",
}

try:
    __version__ = _metadata.version("jaxnets")
except _metadata.PackageNotFoundError:  # A checkout that is not installed.
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'jaxnets' has no attribute {name!r}")
    module = importlib.import_module(f"jaxnets.{_FUNCTIONS.get(name, name)}")
    found = getattr(module, name) if name in _FUNCTIONS else module
    globals()[name] = found  # The next time there is nothing to look for.
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
