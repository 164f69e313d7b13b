"""Run a program compiled whole and quickly, because compiling takes most of a check's time."""

import ctypes
import hashlib
import os
import traceback
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

T = TypeVar("T")
# The programs here run once or twice on small arrays. Without these passes XLA compiles them for a
# CPU about ten times faster; a version of XLA that lacks an option refuses it by name.
_QUICK: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
# What was made for a key, the latest last: a function that is checked again, or traced twice by the
# same check, is compiled once.
_kept: dict[Hashable, Any] = {}
_KEPT = 128
# Frames of JAX and of the checker say nothing about who raised.
_JAX = os.path.dirname(jax.__file__) + os.sep
_HERE = os.path.dirname(__file__) + os.sep
_DOORS = tuple(
    os.path.join(os.path.dirname(_HERE[:-1]), f"_{n}.py") for n in ("audit", "gradcheck")
)
# From here on the time to run outweighs the time to compile.
LARGE = 100_000


def remembered(key: Hashable | None, make: Callable[[], T]) -> T:
    """Return what `make` returned for an equal key before, or returns now; always now for None."""
    if key is None:
        return make()
    value = _kept.pop(key) if key in _kept else make()
    _kept[key] = value
    if len(_kept) > _KEPT:
        del _kept[next(iter(_kept))]
    return value


def compiled(function: Callable, *arguments: Any) -> Callable:
    """Return `function` compiled for arguments of these shapes and dtypes."""
    lowered = jax.jit(lambda *arguments: function(*arguments)).lower(*arguments)
    text = lowered.as_text()
    # The text leaves out the names in trees, unused arguments, which still have to be of the dtypes
    # that were compiled for, and how outputs are nested; and of a callback it has a number alone.
    key = None if "callback" in text else (text, shapes_of(arguments), str(lowered.out_tree))
    return remembered(key, lambda: _compile(lowered, arguments))


def _compile(lowered, arguments) -> Callable:
    quick = jax.default_backend() == "cpu" and _entries(arguments) < LARGE
    while True:
        options = _QUICK if quick else {}
        try:
            return lowered.compile(compiler_options=dict(options))
        except Exception as error:
            unknown = [option for option in options if option in str(error)]
            if not unknown:
                raise
            _QUICK.pop(unknown[0])


def _entries(arguments) -> int:
    return sum(np.size(leaf) for leaf in jax.tree.leaves(arguments))


def _give_back_memory() -> None:
    """Return to the system what was freed, which glibc keeps in pieces that the next do not fit in.

    `gradcheck` of a layer norm of a million entries then takes 0.7 GB, and not 1.1.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def run(function: Callable, *arguments: Any, key: Hashable | None = None) -> Any:
    """Return the results of `function`, compiled whole, as arrays of NumPy.

    Programs of equal keys, at arguments of equal shapes and dtypes, have to be the same: such a
    program is neither traced nor lowered again.
    """
    if key is not None:
        key = key, shapes_of(arguments), _surroundings()
    program = remembered(key, lambda: compiled(function, *arguments))
    if _entries(arguments) >= LARGE:
        _give_back_memory()
    return jax.tree.map(np.asarray, program(*arguments))


def shapes_of(arguments: Any) -> Hashable:
    """Return the structure, shapes and dtypes of a tree of arrays."""
    leaves, structure = jax.tree.flatten(arguments)
    return structure, tuple((np.shape(leaf), str(jnp.result_type(leaf))) for leaf in leaves)


def _surroundings() -> Hashable:
    """Return the settings of JAX that a trace depends on."""
    names = ("enable_x64", "default_matmul_precision", "numpy_dtype_promotion", "default_device")
    settings = tuple(str(getattr(jax.config, f"jax_{name}")) for name in names)
    return *settings, str(jax.sharding.get_abstract_mesh())


def text_of(jaxpr: Any, consts: Sequence) -> Hashable:
    """Return a key by which equal programs are equal; functions in it count by identity."""
    numbers: dict[Any, int] = {}

    def atom(variable):
        if isinstance(variable, core.Literal):
            return "literal", str(variable.aval), np.asarray(variable.val).tobytes()
        return numbers.setdefault(variable, len(numbers))

    def value(part):
        if isinstance(part, core.ClosedJaxpr):
            return text_of(part.jaxpr, part.consts)
        if isinstance(part, core.Jaxpr):
            return text_of(part, ())
        if isinstance(part, tuple | list):
            return tuple(value(one) for one in part)
        if isinstance(part, dict):
            return tuple((name, value(one)) for name, one in part.items())
        if isinstance(part, jax.Array | np.ndarray):
            return contents_of(part)
        try:
            hash(part)
        except TypeError:
            return _Same(part)
        return type(part), part

    def variables(some):
        return tuple((atom(one), str(one.aval)) for one in some)

    body = (
        variables([*jaxpr.constvars, *jaxpr.invars]),
        tuple(
            (
                equation.primitive,
                tuple(map(atom, equation.invars)),
                variables(equation.outvars),
                value(equation.params),
            )
            for equation in jaxpr.eqns
        ),
        tuple(map(atom, jaxpr.outvars)),
    )
    return body, tuple(contents_of(const) for const in consts)


class _Same:
    """Equal to itself alone, and alive as long as the key that it is part of."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def contents_of(array: Any) -> Hashable:
    """Return a key by which arrays of equal dtype, shape and entries are equal."""
    if isinstance(array, jax.core.Tracer) or not isinstance(array, jax.Array | np.ndarray):
        return _Same(array)
    kind = str(array.dtype), array.shape
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    try:
        return kind, hashlib.blake2b(np.asarray(array).tobytes()).digest()
    except Exception:  # It is spread over several processes.
        return _Same(array)


def run_eagerly(function: Callable, *arguments: Any) -> Any:
    """Return the same, operation by operation: for a function that looks at concrete values."""
    arguments = jax.tree.map(jnp.array, arguments)
    return jax.tree.map(np.asarray, function(*arguments))


def each(function: Callable, rows: Any) -> Any:
    """Return the results for each row, stacked; without `jax.vmap`, which may be what is wrong."""
    leaves = jax.tree.leaves(rows)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return jax.lax.map(function, rows)
    results = [function(jax.tree.map(lambda x: x[k], rows)) for k in range(len(leaves[0]))]  # noqa: B023
    return jax.tree.map(lambda *parts: jnp.stack(parts), *results)


def one_line(error: BaseException) -> str:
    """Return an exception in one line, with the place outside of JAX that raised it."""
    lines = str(error).strip().splitlines() or [""]
    # What a callback raises comes as the text of its traceback.
    line = lines[-1] if "Traceback (most recent call last)" in lines[0] else lines[0]
    said = f"{type(error).__name__}: {line}".rstrip(": ")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((_JAX, _HERE, *_DOORS, "<frozen")):
            name = os.path.basename(frame.filename)
            return f"{said} ({name}:{frame.lineno} in {frame.name})"
    return said
