"""Neural networks in JAX whose gradients are written out by hand and proved against autodiff."""

from jaxnets import _interrupt as _interrupt  # First.
from jaxnets import initializers, layers, nets, ops
from jaxnets._autodiff import autodiff
from jaxnets._costs import costs
from jaxnets._gradcheck import gradcheck

__all__ = ["autodiff", "costs", "gradcheck", "initializers", "layers", "nets", "ops"]
