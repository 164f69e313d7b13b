"""Neural networks in JAX whose gradients are written out by hand and proved against autodiff."""

from jaxnets import _interrupt as _interrupt  # First.
from jaxnets import initializers, layers, nets, ops
from jaxnets._audit import audit
from jaxnets.autodiff import autodiff
from jaxnets.costs import costs
from jaxnets.gradcheck import GradCheck, gradcheck

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
