"""Neural networks in JAX whose gradients are written out by hand and proved against autodiff."""

from jaxnets import ops
from jaxnets.autodiff import autodiff

__all__ = ["autodiff", "ops"]
