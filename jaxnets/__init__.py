"""Neural networks in JAX whose gradients are written out by hand and checked against autodiff."""

from importlib import metadata as _metadata

from jaxnets import _launch as _launch  # First: JAX takes a second.
from jaxnets import initializers, layers, nets, ops
from jaxnets._audit import audit
from jaxnets._autodiff import autodiff
from jaxnets._costs import costs
from jaxnets._gradcheck import GradCheck, gradcheck

__all__ = [
    "GradCheck",
    "audit",
    "autodiff",
    "costs",
    "gradcheck",
    "initializers",
    "layers",
    "nets",
    "ops",
]

try:
    __version__ = _metadata.version("jaxnets")
except _metadata.PackageNotFoundError:  # A checkout that is not installed.
    __version__ = "0+unknown"
