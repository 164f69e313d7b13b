"""Read a program equation by equation, and evaluate it so."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jax.extend import core

# The primitive by which a program calls a function with a `jax.custom_vjp` rule.
RULE = "custom_vjp_call"

# Calls whose body is evaluated in place, and the parameter that holds it.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    RULE: "call_jaxpr",
}


def equations(node: Any) -> Iterator:
    """Yield the equations of a jaxpr, or of a parameter of an equation, at any depth."""
    # This one first: from jax 0.12 on a closed jaxpr is a jaxpr, too.
    if isinstance(node, core.Jaxpr):
        for equation in node.eqns:
            yield equation
            for value in equation.params.values():
                yield from equations(value)
    elif isinstance(node, core.ClosedJaxpr):
        yield from equations(node.jaxpr)
    elif isinstance(node, tuple | list):
        for part in node:
            yield from equations(part)


def body(equation: Any) -> tuple[Any, Sequence] | None:
    """Return the jaxpr that an equation calls, with its constants; None for any other equation."""
    name = equation.primitive.name
    if name not in _CALLS:
        return None
    called = equation.params[_CALLS[name]]
    if isinstance(called, core.ClosedJaxpr):
        return called.jaxpr, called.consts
    return called, ()


def evaluate(jaxpr: Any, consts: Sequence, arguments: Sequence, step: Callable) -> list:
    """Evaluate a jaxpr; `step(jaxpr, equation, inputs)` returns the outputs of each equation."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

    def read(atom):
        if isinstance(atom, core.Literal):
            return np.asarray(atom.val, atom.aval.dtype)
        return values[atom]

    for equation in jaxpr.eqns:
        outputs = step(jaxpr, equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def bind(jaxpr: Any, equation: Any, inputs: Sequence) -> list:
    """Return the outputs of one of jaxpr's equations."""
    if any(isinstance(value, core.Jaxpr | core.ClosedJaxpr) for value in equation.params.values()):
        # A loop or a map over a mesh, whose own way to be called depends on the version of JAX.
        pairs = zip(equation.invars, inputs, strict=True)
        values = {atom: value for atom, value in pairs if not isinstance(atom, core.Literal)}
        return alone(jaxpr, equation, list(values))(*values.values())
    outputs = equation.primitive.bind(*inputs, **equation.params)
    return outputs if equation.primitive.multiple_results else [outputs]


def alone(jaxpr: Any, equation: Any, atoms: Sequence) -> Callable:
    """Return one of jaxpr's equations as a function of these of its inputs."""
    program = jaxpr.replace(
        constvars=[],
        invars=list(atoms),
        outvars=equation.outvars,
        eqns=[equation],
        effects=equation.effects,
    )
    return core.jaxpr_as_fun(core.ClosedJaxpr(program, ()))
