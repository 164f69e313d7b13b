"""A function under check, as a function of its real array leaves, with random cotangents.

Long: the one class that all checks share, with what draws and redraws it.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets._autodiff import autodiff
from jaxnets._checking import programs


class Raised(Exception):
    """The function raises at the arguments given, whatever its gradient."""


@dataclass(frozen=True)
class Case:
    """A function and the point at which its gradient is looked at.

    A complex array is two leaves, and a complex output two outputs: its real and its imaginary
    part.

    Attributes:
        function: of the leaves; returns the list of f's floating outputs.
        leaves: all array leaves of the arguments, integers and random keys included.
        names: how the user would write each leaf, such as "params['weight']".
        differentiated: the positions in `leaves` of those whose gradient is checked.
        cotangents: random, one for each output.
        others: more of them, independent of the first.
        directions: random, one for each differentiated leaf.
        dtype: of the first differentiated leaf, or "float64".
        plain: the function whose derivative is the right one, without its rules.
        unchecked: what is held constant and which outputs are not compared, each with its type.
        eager: whether the function has to be run operation by operation.
        signature: equal for two cases whose programs are the same; None if that is not known.
        rules: the traced program of the forward and the backward that the signature is of.
    """

    function: Callable
    leaves: list
    names: list[str]
    differentiated: list[int]
    cotangents: list
    others: list
    directions: list
    dtype: str
    plain: Callable
    unchecked: tuple[str, ...] = ()
    eager: bool = False
    signature: tuple | None = None
    rules: Any = None

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
        return self.plain(*self.filled(floats))

    def filled(self, floats: Sequence) -> list:
        """Return all leaves, the differentiated ones replaced by `floats`."""
        leaves = list(self.leaves)
        for k, value in zip(self.differentiated, floats, strict=True):
            leaves[k] = value
        return leaves

    def run(self, program: Callable, *arguments: Any, name: Hashable | None = None) -> Any:
        """Return the results of a program that calls `explicit`, and that has a name of its own."""
        if self.eager:
            return programs.run_eagerly(program, *arguments)
        return programs.run(program, *arguments, key=self.key(name))

    def key(self, name: Hashable | None) -> Hashable | None:
        """Return under what a program of this name is remembered; None if it cannot be."""
        return None if self.signature is None or name is None else (self.signature, name)

    def traced_once(self) -> "Case":
        """Return the case with a function that all programs share, instead of tracing its own."""
        return self if self.eager else replace(self, function=jax.jit(self.function))

    def without_rules(self) -> "Case":
        """Return the case of the function without its rules."""
        return replace(self, function=self.plain, signature=None, rules=None)

    def in_float64(self) -> "Case":
        """Return the same point, exactly, in float64; call under `jax.enable_x64(True)`."""
        leaves = [_wide(x) if _is_floating(x) else x for x in self.leaves]
        # The outputs' dtypes are the function's own affair: it may name one.
        if self.eager:
            shapes = [jnp.asarray(out) for out in self.function(*leaves)]
        else:
            shapes = jax.eval_shape(self.function, *leaves)

        def in_dtype_of_output(cotangents):
            pairs = zip(cotangents, shapes, strict=True)
            return [np.asarray(_float64(cotangent), shape.dtype) for cotangent, shape in pairs]

        return replace(
            self,
            leaves=leaves,
            cotangents=in_dtype_of_output(self.cotangents),
            others=in_dtype_of_output(self.others),
            directions=[_float64(direction) for direction in self.directions],
            dtype="float64",
        )


def _wide(array):
    return jnp.asarray(array, jnp.float64)


def _float64(array) -> np.ndarray:
    return np.asarray(array).astype(np.float64)


def _is_floating(array) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating)


def _is_array(leaf) -> bool:
    if isinstance(leaf, jax.Array):
        return True
    return isinstance(leaf, np.ndarray | np.generic) and (
        jnp.issubdtype(leaf.dtype, jnp.number) or leaf.dtype == bool
    )


def _described(value) -> str:
    if _is_array(value) or isinstance(value, jax.ShapeDtypeStruct):
        return f"{value.dtype}{list(value.shape)}"
    return f"a Python {type(value).__name__}"


def draw_case(
    f: Callable,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    rng: np.random.Generator,
    *,
    wrt: Collection[str] = (),
    reference: Callable | None = None,
) -> Case:
    """Return the case of `f(*args, **kwargs)` with random cotangents and directions.

    The arrays are copied, so that the caller's live on whatever `f` does with its own.

    Args:
        f: the function.
        args: its arguments, pytrees.
        kwargs: likewise.
        rng: the source of cotangents and directions.
        wrt: the arguments, or leaves of them, whose gradient is checked; all if none is named.
        reference: a function of the same arguments whose gradient is the right one; f by default.

    Raises:
        ValueError: no argument, or no output, is a floating array; or `wrt` names none.
    """
    # Long: the function of leaves closes over how they were made.
    flat, structure = jax.tree.flatten((args, kwargs))
    all_names = _argument_names(f, args, kwargs)
    leaves: list = []
    names: list[str] = []
    places: list[tuple[int, int]] = []  # position in `flat`, and how many leaves it is made of
    held = []
    for i, (leaf, name) in enumerate(zip(flat, all_names, strict=True)):
        if not _is_array(leaf):
            if isinstance(leaf, bool | int | float | complex):
                held.append(f"{name} ({_described(leaf)})")
            continue
        array = jnp.array(leaf, copy=True)
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            # Jitted, because a mesh may be explicit.
            leaves += [jnp.real(array), jnp.imag(array)]
            names += [f"{name}.real", f"{name}.imag"]
        else:
            leaves.append(array)
            names.append(name)
        places.append((i, len(leaves)))
    chosen = [name for name in names if not wrt or _is_named(name, wrt)]
    unknown = [name for name in wrt if not any(_is_named(leaf, [name]) for leaf in names)]
    if unknown:
        raise ValueError(
            f"wrt: no array is called {', '.join(unknown)}; there are {', '.join(names)}"
        )
    floating = [k for k, x in enumerate(leaves) if _is_floating(x)]
    differentiated = [k for k in floating if names[k] in chosen]
    if not differentiated:
        raise ValueError("gradcheck needs an argument that is an array of a floating dtype")
    held += [
        f"{name} ({_described(leaf)})"
        for k, (name, leaf) in enumerate(zip(names, leaves, strict=True))
        if k not in differentiated
    ]
    ignored: list[str] = []

    def of_leaves(g):
        def function(*leaves):
            filled = list(flat)
            start = 0
            for i, stop in places:
                part = leaves[start:stop]
                filled[i] = part[0] if len(part) == 1 else jax.lax.complex(*part)
                start = stop
            args, kwargs = jax.tree.unflatten(structure, filled)
            # A module whose state a call updates may be updated only where it was made.
            module, kind = jax.tree.flatten(g)
            outputs = []
            ignored.clear()
            result = jax.tree.unflatten(kind, module)(*args, **kwargs)
            for path, out in jax.tree.leaves_with_path(result):
                dtype = jnp.result_type(out)
                if jnp.issubdtype(dtype, jnp.floating):
                    outputs.append(out)
                elif jnp.issubdtype(dtype, jnp.complexfloating):
                    outputs += [jnp.real(out), jnp.imag(out)]
                else:
                    ignored.append(f"output{jax.tree_util.keystr(path)} ({dtype})")
            return outputs

        return function

    function = of_leaves(f)
    eager = False
    try:
        try:
            outputs = jax.eval_shape(function, *leaves)
        except jax.errors.JAXTypeError:
            outputs = [jnp.asarray(out) for out in function(*leaves)]
            eager = True
    except Exception as error:
        raise Raised(programs.one_line(error)) from error
    if not outputs:
        raise ValueError("gradcheck needs a function with an output of a floating dtype")
    plain = autodiff(of_leaves(reference or f))
    return Case(
        function,
        leaves,
        names,
        differentiated,
        cotangents=[_normal_like(rng, out) for out in outputs],
        directions=[structured(leaves[k], _normal_like(rng, leaves[k])) for k in differentiated],
        others=[_normal_like(rng, out) for out in outputs],
        dtype=str(leaves[differentiated[0]].dtype),
        plain=plain if eager else jax.jit(plain),  # Traced once for all that is asked of it.
        unchecked=(*held, *ignored),
        eager=eager,
    )


def structured(value, direction):
    """Return a direction that keeps `value` symmetric if it is; a function may read half of it."""
    sign = _symmetry(value)
    if not sign:
        return direction
    flipped = np.swapaxes(direction, -1, -2)
    return np.asarray(0.5 * (np.asarray(direction) + sign * flipped), direction.dtype)


def _symmetry(value) -> float:
    if np.ndim(value) < 2 or np.shape(value)[-1] != np.shape(value)[-2] or np.shape(value)[-1] < 2:
        return 0.0
    array = np.asarray(value)
    flipped = np.swapaxes(array, -1, -2)
    return 1.0 if (flipped == array).all() else -1.0 if (flipped == -array).all() else 0.0


def redrawn(case: Case, sampler: Callable | None, rng: np.random.Generator) -> Case:
    """Return the case at another point, where `sampler(rng, name, array)` draws each argument."""
    leaves = list(case.leaves)
    for k, name in zip(case.differentiated, case.float_names, strict=True):
        old = np.asarray(leaves[k])
        if sampler is not None:
            new = np.asarray(sampler(rng, name, leaves[k]))
        else:
            wide = old.astype(np.float64)
            deviation = float(np.std(wide)) or abs(float(np.mean(wide))) or 1.0
            mean = float(np.mean(wide)) if old.size else 0.0
            new = structured(old, mean + deviation * rng.standard_normal(old.shape))
        leaves[k] = jnp.asarray(new.astype(old.dtype).reshape(old.shape))
    return replace(
        case,
        leaves=leaves,
        cotangents=[_normal_like(rng, c) for c in case.cotangents],
        others=[_normal_like(rng, c) for c in case.others],
    )


def _is_named(name: str, wanted: Collection[str]) -> bool:
    return any(name == one or name.startswith((f"{one}[", f"{one}.")) for one in wanted)


def _normal_like(rng, array):
    return np.asarray(rng.standard_normal(array.shape), array.dtype)


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


def name_of(f: Callable) -> str:
    """Return the name by which f's module knows it, which a wrapped function's own may not be."""
    own = getattr(f, "__name__", None) or repr(f)
    module = sys.modules.get(getattr(f, "__module__", None) or "")
    names = [name for name, value in vars(module).items() if value is f] if module else []
    return own if own in names or not names else names[0]


def vjp(function: Callable, floats: Sequence, cotangents: Sequence) -> list:
    """Return the forward rule's values, then the gradients."""
    values, pullback = jax.vjp(function, *floats)
    return [*values, *pullback(list(cotangents))]


def gradients(function: Callable, floats: Sequence, cotangents: Sequence) -> list:
    """Return the gradients alone."""
    return vjp(function, floats, cotangents)[len(cotangents) :]


def both_gradients(
    function: Callable, floats: Sequence, cotangents: Sequence, directions: Sequence
) -> tuple[list, list]:
    """Return `vjp` and the gradient of <directions, gradient>, reverse over reverse."""

    def slope(*floats):
        first = vjp(function, floats, cotangents)
        pairs = zip(directions, first[len(cotangents) :], strict=True)
        return functools.reduce(jnp.add, [jnp.sum(d * g) for d, g in pairs]), first

    places = tuple(range(len(floats)))
    second, first = jax.grad(slope, argnums=places, has_aux=True)(*floats)
    return first, list(second)


def gradient_of_gradient(
    function: Callable, floats: Sequence, cotangents: Sequence, directions: Sequence
) -> list:
    """Return the second of `both_gradients`."""
    return both_gradients(function, floats, cotangents, directions)[1]


def hessian_product(
    function: Callable, floats: Sequence, cotangents: Sequence, directions: Sequence
) -> list:
    """Return the Hessian of <cotangents, function> times `directions`, forward over reverse."""
    return jax.jvp(
        lambda *floats: gradients(function, floats, cotangents), tuple(floats), tuple(directions)
    )[1]
