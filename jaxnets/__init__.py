"""Neural networks in JAX whose every gradient is written out by hand and proved against autodiff."""

from jaxnets import ops
from jaxnets.autodiff import autodiff

__all__ = ["autodiff", "ops"]
