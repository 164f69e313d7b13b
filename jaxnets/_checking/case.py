"""A function under check, as a function of its array leaves, with random cotangents."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxnets._autodiff import autodiff


@dataclass(frozen=True)
class Case:
    """A function and the point at which its gradient is looked at.

    Attributes:
        function: of the array leaves; returns the list of f's floating outputs.
        leaves: all array leaves of the arguments, integers and random keys included.
        names: how the user would write each leaf, such as "params['weight']".
        differentiated: the positions in `leaves` of those of a floating dtype.
        cotangents: random, one for each output.
        others: more of them, independent of the first.
        directions: random, one for each differentiated leaf.
        dtype: of the first differentiated leaf, or "float64".
    """

    function: Callable
    leaves: list
    names: list[str]
    differentiated: list[int]
    cotangents: list
    others: list
    directions: list
    dtype: str

    @property
    def floats(self) -> list:
        """The differentiated leaves."""
        return [self.leaves[k] for k in self.differentiated]

    @property
    def float_names(self) -> list[str]:
        """The names of the differentiated leaves."""
        return [self.names[k] for k in self.differentiated]

    def explicit(self, *floats) -> list:
        """Return the outputs as a function of the differentiated leaves alone."""
        return self.function(*self.filled(floats))

    def twin(self, *floats) -> list:
        """Return the same with all hand-written rules forgotten."""
        return autodiff(self.function)(*self.filled(floats))

    def filled(self, floats: Sequence) -> list:
        """Return all leaves, the differentiated ones replaced by `floats`."""
        leaves = list(self.leaves)
        for k, value in zip(self.differentiated, floats, strict=True):
            leaves[k] = value
        return leaves

    def in_float64(self) -> "Case":
        """Return the same point, exactly, in float64; call under `jax.enable_x64(True)`."""
        leaves = [_wide(x) if k in self.differentiated else x for k, x in enumerate(self.leaves)]
        # The outputs' dtypes are the function's own affair: it may name one.
        shapes = jax.eval_shape(self.function, *leaves)

        def in_dtype_of_output(cotangents):
            pairs = zip(cotangents, shapes, strict=True)
            return [jnp.asarray(_wide(cotangent), shape.dtype) for cotangent, shape in pairs]

        return replace(
            self,
            leaves=leaves,
            cotangents=in_dtype_of_output(self.cotangents),
            others=in_dtype_of_output(self.others),
            directions=[_wide(direction) for direction in self.directions],
            dtype="float64",
        )


def _wide(array):
    return jnp.asarray(array, jnp.float64)


def draw_case(
    f: Callable, args: tuple[Any, ...], kwargs: dict[str, Any], rng: np.random.Generator
) -> Case:
    """Return the case of `f(*args, **kwargs)` with random cotangents and directions.

    The arrays are copied, so that the caller's live on if `f` donates its arguments. Nor does `f`
    find an array that it has donated before: a function that donates, at any depth of it or of its
    gradient, is called under `jax.jit`, where the donations inside have no effect.

    Raises:
        TypeError: an array is complex.
        ValueError: no argument, or no output, is a floating array.
    """
    flat, structure = jax.tree.flatten((args, kwargs))
    positions = [i for i, leaf in enumerate(flat) if isinstance(leaf, jax.Array | np.ndarray)]
    leaves = [jnp.array(flat[i], copy=True) for i in positions]
    all_names = _argument_names(f, args, kwargs)
    names = [all_names[i] for i in positions]
    for name, leaf in zip(names, leaves, strict=True):
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise TypeError(f"gradcheck takes real arrays; {name} is {leaf.dtype}")
    differentiated = [k for k, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.floating)]
    if not differentiated:
        raise ValueError("gradcheck needs an argument that is an array of a floating dtype")

    def function(*leaves):
        filled = list(flat)
        for i, leaf in zip(positions, leaves, strict=True):
            filled[i] = leaf
        args, kwargs = jax.tree.unflatten(structure, filled)
        outputs = jax.tree.leaves(f(*args, **kwargs))
        return [out for out in outputs if jnp.issubdtype(jnp.result_type(out), jnp.floating)]

    jaxpr, outputs = jax.make_jaxpr(function, return_shape=True)(*leaves)
    if not outputs:
        raise ValueError("gradcheck needs a function with an output of a floating dtype")
    case = Case(
        function,
        leaves,
        names,
        differentiated,
        cotangents=[_normal_like(rng, out) for out in outputs],
        directions=[_normal_like(rng, leaves[k]) for k in differentiated],
        others=[_normal_like(rng, out) for out in outputs],
        dtype=str(leaves[differentiated[0]].dtype),
    )
    if _donates(jaxpr) or _gradient_donates(case):
        return replace(case, function=jax.jit(function))
    return case


def _gradient_donates(case: Case) -> bool:
    try:
        jaxpr = jax.make_jaxpr(lambda *args: vjp(case.explicit, *args))(
            case.floats, case.cotangents
        )
    except Exception:
        return False  # A check will say what it raises.
    return _donates(jaxpr)


def _donates(node) -> bool:
    """Whether a call in `node`, a jaxpr or a parameter of an equation, donates an argument."""
    # This one first: from jax 0.12 on a closed jaxpr is a jaxpr, too.
    if isinstance(node, core.Jaxpr):
        return any(
            any(equation.params.get("donated_invars", ()))
            or _donates(tuple(equation.params.values()))
            for equation in node.eqns
        )
    if isinstance(node, core.ClosedJaxpr):
        return _donates(node.jaxpr)
    return isinstance(node, tuple) and any(_donates(part) for part in node)


def _normal_like(rng, array):
    return jnp.asarray(rng.standard_normal(array.shape), array.dtype)


def _argument_names(f, args, kwargs) -> list[str]:
    positional = [f"args[{i}]" for i in range(len(args))]
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # Some builtins have no signature.
        parameters = []
    for i, parameter in enumerate(parameters[: len(args)]):
        if parameter.kind == parameter.VAR_POSITIONAL:
            break
        positional[i] = parameter.name
    names = []
    for path, _ in jax.tree.leaves_with_path((args, kwargs)):
        head = positional[path[1].idx] if path[0].idx == 0 else str(path[1].key)
        names.append(head + jax.tree_util.keystr(path[2:]))
    return names


def vjp(function: Callable, floats: Sequence, cotangents: Sequence) -> list:
    """Return the forward rule's values, then the gradients."""
    values, pullback = jax.vjp(function, *floats)
    return [*values, *pullback(list(cotangents))]


def _gradients(function, floats, cotangents):
    return vjp(function, floats, cotangents)[len(cotangents) :]


def gradient_of_gradient(
    function: Callable, floats: Sequence, cotangents: Sequence, directions: Sequence
) -> list:
    """Return the gradient of <directions, gradient>, reverse over reverse."""

    def slope(*floats):
        gradients = _gradients(function, floats, cotangents)
        products = [jnp.sum(d * g) for d, g in zip(directions, gradients, strict=True)]
        return functools.reduce(jnp.add, products)

    return list(jax.grad(slope, argnums=tuple(range(len(floats))))(*floats))


def hessian_product(
    function: Callable, floats: Sequence, cotangents: Sequence, directions: Sequence
) -> list:
    """Return the Hessian of <cotangents, function> times `directions`, forward over reverse."""

    def gradients(*floats):
        return _gradients(function, floats, cotangents)

    return jax.jvp(gradients, tuple(floats), tuple(directions))[1]
