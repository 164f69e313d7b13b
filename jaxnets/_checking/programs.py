"""Run a program compiled whole and quickly, because compiling takes most of a check's time."""

import os
import traceback
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# The programs here run once or twice on small arrays. Without these passes XLA compiles them for a
# CPU about ten times faster; a version of XLA that lacks an option refuses it by name.
_QUICK: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
# Compiled programs by their text, the latest last: a function that is checked again, or traced
# twice by the same check, is compiled once.
_kept: dict[tuple, Callable] = {}
_KEPT = 64
# Frames of JAX and of the checker say nothing about who raised.
_JAX = os.path.dirname(jax.__file__) + os.sep
_HERE = os.path.dirname(__file__) + os.sep
# From here on the time to run outweighs the time to compile.
LARGE = 100_000


def compiled(function: Callable, *arguments: Any) -> Callable:
    """Return `function` compiled for arguments of these shapes and dtypes."""
    lowered = jax.jit(lambda *arguments: function(*arguments)).lower(*arguments)
    # The text leaves out the names in trees, unused arguments and how outputs are nested.
    key = (lowered.as_text(), str(lowered.in_tree), str(lowered.out_tree))
    program = _kept.pop(key, None) or _compile(lowered, arguments)
    _kept[key] = program
    if len(_kept) > _KEPT:
        del _kept[next(iter(_kept))]
    return program


def _compile(lowered, arguments) -> Callable:
    entries = sum(np.size(leaf) for leaf in jax.tree.leaves(arguments))
    while True:
        options = _QUICK if jax.default_backend() == "cpu" and entries < LARGE else {}
        try:
            return lowered.compile(compiler_options=dict(options))
        except Exception as error:
            unknown = [option for option in options if option in str(error)]
            if not unknown:
                raise
            _QUICK.pop(unknown[0])


def run(function: Callable, *arguments: Any) -> Any:
    """Return the results of `function`, compiled whole, as arrays of NumPy."""
    return jax.tree.map(np.asarray, compiled(function, *arguments)(*arguments))


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
    text = str(error).strip()
    said = f"{type(error).__name__}: {text.splitlines()[0] if text else ''}".rstrip(": ")
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((_JAX, _HERE, "<frozen")):
            name = os.path.basename(frame.filename)
            return f"{said} ({name}:{frame.lineno} in {frame.name})"
    return said
