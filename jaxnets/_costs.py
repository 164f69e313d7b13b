"""What the gradient of a function costs, with its hand-written rules and without them."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxnets._autodiff import autodiff
from jaxnets._checking.case import draw_case, name_of, vjp

_ROUNDS = 15
_SECONDS_PER_ROUND = 0.005
# A slow function is timed in fewer rounds, but in so many.
_SECONDS, _FEWEST_ROUNDS = 0.5, 5


@dataclass(frozen=True)
class Cost:
    """What one way to compute a value and its gradient costs.

    Attributes:
        residual_bytes: the arrays kept between forward and backward, each counted once; an
            argument that is kept counts as well.
        flops: floating-point operations of the compiled program; NaN where XLA does not say.
        bytes_accessed: bytes that the compiled program reads and writes; NaN likewise.
        peak_bytes: arguments, results and temporaries of the compiled program.
        seconds: median time of a call.

    All are NaN where JAX cannot differentiate the function.
    """

    residual_bytes: float
    flops: float
    bytes_accessed: float
    peak_bytes: float
    seconds: float


@dataclass(frozen=True)
class Costs:
    """The costs of a function's gradient beside those of `autodiff(f)`.

    Attributes:
        function: its name.
        input_bytes: the size of its largest floating argument, to compare the residuals with.
        explicit: with the rules that the function brings.
        autodiff: with all of them forgotten.
    """

    function: str
    input_bytes: int
    explicit: Cost
    autodiff: Cost

    @property
    def time_ratio(self) -> float:
        """The explicit gradient's time over autodiff's."""
        return self.explicit.seconds / self.autodiff.seconds

    def __str__(self) -> str:
        """Return a table of three columns: explicit, autodiff and their ratio."""
        explicit, twin = self.explicit, self.autodiff
        rows = [
            ("saved between forward and backward", "bytes", "residual_bytes"),
            ("floating-point operations", "", "flops"),
            ("read and written", "bytes", "bytes_accessed"),
            ("peak memory", "bytes", "peak_bytes"),
            ("time", "s", "seconds"),
        ]
        lines = [
            f"{'gradient of ' + self.function:<42}{'explicit':>12}{'autodiff':>12}{'ratio':>8}"
        ]
        for label, unit, field in rows:
            ours, theirs = getattr(explicit, field), getattr(twin, field)
            ratio = f"{ours / theirs:8.2f}" if theirs > 0 else f"{'-':>8}"
            label = f"{label} ({unit})" if unit else label
            lines.append(f"  {label:<44}{ours:>12.4g}{theirs:>12.4g}{ratio}")
        return "\n".join(lines)


def costs(f: Callable, *args: Any, **kwargs: Any) -> Costs:
    """Measure what the gradient of `f` at `(*args, **kwargs)` costs, beside that of `autodiff(f)`.

    The gradient is the compiled one of all floating arguments under a full cotangent. Times are
    medians of calls of the two in turn; on a shared machine their ratio is worth more than either.

    Args:
        f: any function that JAX can differentiate.
        *args: its arguments; arrays of a floating dtype are differentiated.
        **kwargs: likewise.

    Raises:
        ValueError: no argument, or no output, is a floating array.
    """
    case = draw_case(f, args, kwargs, np.random.default_rng(0))
    input_bytes = max(value.nbytes for value in case.floats)
    # Without the jit around it, which changes what autodiff keeps.
    case = replace(case, plain=autodiff(case.function))
    functions = [case.explicit, case.twin]
    compiled = [_compile(functions[0], case.floats, case.cotangents)]
    try:
        compiled.append(_compile(functions[1], case.floats, case.cotangents))
    except Exception:
        # Such as a while loop, which has a rule because JAX cannot differentiate it.
        functions.pop()
    seconds = _times([lambda run=run: run(case.floats, case.cotangents) for run in compiled])
    explicit, *twins = (
        _cost(function, run, duration, case.floats)
        for function, run, duration in zip(functions, compiled, seconds, strict=True)
    )
    twin = twins[0] if twins else Cost(*[math.nan] * 5)
    return Costs(name_of(f), input_bytes, explicit, twin)


def residual_bytes(f: Callable, *floats: jax.Array) -> int:
    """Return the bytes that `jax.vjp(f, *floats)` keeps for the backward, each array once."""
    jaxpr = jax.make_jaxpr(lambda *floats: jax.tree.leaves(jax.vjp(f, *floats)[1]))(*floats)
    # JAX hands over each array once, however often a rule lists it.
    kept = [atom for atom in jaxpr.jaxpr.outvars if not isinstance(atom, core.Literal)]
    return sum(math.prod(atom.aval.shape) * atom.aval.dtype.itemsize for atom in kept)


def _compile(function, floats, cotangents):
    return (
        jax.jit(lambda floats, cts: vjp(function, floats, cts)).lower(floats, cotangents).compile()
    )


def _cost(function, compiled, seconds, floats) -> Cost:
    analysis = compiled.cost_analysis() or {}
    memory = compiled.memory_analysis()
    return Cost(
        residual_bytes=residual_bytes(function, *floats),
        flops=float(analysis.get("flops", math.nan)),
        bytes_accessed=float(analysis.get("bytes accessed", math.nan)),
        peak_bytes=memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes,
        seconds=seconds,
    )


def _times(calls: Sequence[Callable]) -> list[float]:
    """Return the median seconds a call, the calls taking turns so that a busy moment hits all."""
    repeats, round_s = [], 0.0
    for call in calls:
        jax.block_until_ready(call())
        start = time.perf_counter()
        jax.block_until_ready(call())
        once = time.perf_counter() - start
        repeats.append(max(1, int(_SECONDS_PER_ROUND / max(once, 1e-9))))
        round_s += max(once, _SECONDS_PER_ROUND)
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(min(_ROUNDS, max(_FEWEST_ROUNDS, int(_SECONDS / round_s)))):
        for call, repeat, sample in zip(calls, repeats, samples, strict=True):
            start = time.perf_counter()
            for _ in range(repeat):
                result = call()
            jax.block_until_ready(result)
            sample.append((time.perf_counter() - start) / repeat)
    return [statistics.median(sample) for sample in samples]
