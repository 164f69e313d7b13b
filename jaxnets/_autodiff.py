"""The transformation that forgets hand-written gradients."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.extend.core import primitives

P = ParamSpec("P")
R = TypeVar("R")


def autodiff(f: Callable[P, R]) -> Callable[P, R]:
    """Return `f` with every `jax.custom_vjp` rule in it forgotten, at any depth.

    The result computes what `f` computes, and JAX differentiates it by itself: the independent twin
    that a hand-written gradient is held against. Like `jax.jit` it is a transformation of any
    function, an op, a layer, a whole training loss or somebody else's model, and composes with
    grad, jvp, vmap, jit and the rest. Rules made with `jax.custom_jvp` stay: they are how JAX
    defines derivatives of its own (`jax.nn.relu`). A `jax.custom_batching.custom_vmap` function is
    replaced by its body, because JAX has no reverse mode of it.

    Args:
        f: any function that JAX can trace; arguments that are no arrays are constants to it.

    Returns:
        A function with f's signature.

    A gradient that `f` itself takes inside has used the rules already: hand over the function that
    is to be differentiated, not its gradient.
    """

    @functools.wraps(f)
    def forgetful(*args: P.args, **kwargs: P.kwargs) -> R:
        leaves, structure = jax.tree.flatten((f, args, kwargs))

        def rebuilt():
            # A module whose state a call updates may be updated only where it was made. As with
            # `jax.jit`, the caller's own keeps its state.
            f, args, kwargs = jax.tree.unflatten(structure, leaves)
            return f(*args, **kwargs)

        # Tracing without arguments leaves every argument as f's caller gave it: arrays and outer
        # tracers are closed over, and strings, shapes and functions need no declaration as static.
        jaxpr, out = jax.make_jaxpr(rebuilt, return_shape=True)()
        shapes, structure = jax.tree.flatten(out)
        flat = core.jaxpr_as_fun(_forget(jaxpr))()
        # A constant among the outputs comes out of a jaxpr as the Python number it was.
        arrays = [
            value if isinstance(value, jax.Array) else jnp.asarray(value, shape.dtype)
            for value, shape in zip(flat, shapes, strict=True)
        ]
        return jax.tree.unflatten(structure, arrays)

    return forgetful


def _forget(node):
    """Return `node`, a jaxpr or a parameter of an equation, without custom_vjp calls."""
    # This one first: from jax 0.12 on a closed jaxpr is a jaxpr, too.
    if isinstance(node, core.Jaxpr):
        return node.replace(eqns=[_forget_equation(equation) for equation in node.eqns])
    if isinstance(node, core.ClosedJaxpr):
        return node.replace(jaxpr=_forget(node.jaxpr))
    if isinstance(node, tuple):
        parts = tuple(_forget(part) for part in node)
        if any(part is not old for part, old in zip(parts, node, strict=True)):
            return type(node)(*parts) if hasattr(node, "_fields") else parts
    return node


def _forget_equation(equation):
    params = {name: _forget(value) for name, value in equation.params.items()}
    if equation.primitive is primitives.custom_vjp_call_p:
        return equation.replace(
            primitive=primitives.closed_call_p, params={"call_jaxpr": params["call_jaxpr"]}
        )
    if equation.primitive.name == "custom_vmap_call":
        return equation.replace(
            primitive=primitives.closed_call_p, params={"call_jaxpr": params["call"]}
        )
    return equation.replace(params=params)
