"""Neural networks in JAX whose gradients are written out by hand and proved against autodiff."""

from jaxnets import _launch as _launch  # First: JAX takes a second.
from jaxnets import initializers, layers, nets, ops
from jaxnets.autodiff import autodiff
from jaxnets.costs import costs
from jaxnets.gradcheck import gradcheck

__all__ = ["autodiff", "costs", "gradcheck", "initializers", "layers", "nets", "ops"]
