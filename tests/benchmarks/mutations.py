"""Proves `gradcheck` by mutation: `python -m tests.benchmarks.mutations`.

Plants each bug of `tests.benchmarks.mutants` in its op and asks `gradcheck`, and beside it
`jax.test_util.check_grads` and `chex.assert_numerical_grads`, whether it shows. Then it runs
`gradcheck` on random arguments of the ops as they are, which must raise no alarm.
"""

import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from jaxnets import gradcheck
from jaxnets._catalog import CATALOG, Entry, Shape
from tests.benchmarks.mutants import MUTANTS, Mutant, planted

Precision = Literal["float32", "float64"]
PRECISIONS: tuple[Precision, ...] = ("float32", "float64")

# As many features as `linear` has outputs, so that a transposed weight fits; then one feature, and
# a batch of one, where variances are 0 and eps is all there is. A mutant is dead at its first kill.
MUTANT_SHAPES: tuple[Shape, ...] = ((6, 5), (5, 1), (1, 7))

# A handful, so that compiled primitives are found again.
CORRECT_SHAPES: tuple[Shape, ...] = ((8, 16), (1, 7), (5, 1), (2, 3, 4), (33, 10))
CORRECT_DTYPES = ("float32", "bfloat16", "float64")


class Point(NamedTuple):
    """A row of the catalog at arguments of one precision."""

    entry: Entry
    arguments: tuple
    name: str

    def differentiable(self) -> tuple[Callable, list]:
        """Return the function of its floating arrays alone, and these."""
        leaves, structure = jax.tree.flatten(self.arguments)
        positions = [k for k, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.floating)]

        def function(*floats):
            filled = list(leaves)
            for k, value in zip(positions, floats, strict=True):
                filled[k] = value
            return self.entry.function(*jax.tree.unflatten(structure, filled))

        return function, [leaves[k] for k in positions]


def points(
    op: str,
    dtype: Precision,
    shapes: Sequence[Shape] = MUTANT_SHAPES,
    rng: np.random.Generator | None = None,
) -> Iterator[Point]:
    """Yield an op's calls, each shape's in turn; call under `jax.enable_x64` for float64.

    The arguments are the same in every call unless `rng` draws them.
    """
    for shape in shapes:
        for entry in CATALOG:
            if entry.op == op:
                drawn = entry.sample(rng or np.random.default_rng(1), shape, jnp.dtype(dtype))
                yield Point(entry, drawn, f"{entry.name} {list(shape)} {dtype}")


# --- the three checkers: what each has against a function at a point; empty if nothing -----------


def by_gradcheck(point: Point, dtype: str) -> str:
    """Return what gradcheck finds by the checks that it runs in `dtype`."""
    try:
        report = gradcheck(point.entry.function, *point.arguments)
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    found = (*report.failures, *report.warnings)
    return "; ".join(f"{c.name}: {c.message}" for c in found if c.dtype == dtype)


def by_check_grads(point: Point, dtype: str) -> str:
    """Return what `jax.test_util.check_grads` finds with its default step and tolerances."""
    function, floats = point.differentiable()
    return _complaint(lambda: jax.test_util.check_grads(function, floats, order=1, modes=["rev"]))


def by_chex(point: Point, dtype: str) -> str:
    """Return what `chex.assert_numerical_grads` finds with its default tolerances."""
    function, floats = point.differentiable()
    # Reverse mode alone: forward mode does not exist for a custom_vjp function.
    return _complaint(lambda: chex.assert_numerical_grads(function, floats, order=1, modes=["rev"]))


def _complaint(check: Callable[[], None]) -> str:
    try:
        check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


CHECKERS = {"gradcheck": by_gradcheck, "check_grads": by_check_grads, "chex": by_chex}


def found(checker: str, mutant: Mutant, dtype: Precision, passed_over: Collection[str] = ()) -> str:
    """Plant a bug; return the first thing that a checker finds, or nothing if it survives.

    The points named in `passed_over` do not count: there the checker complains of the op as it is.
    """
    with planted(mutant), jax.enable_x64(dtype == "float64"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for point in points(mutant.op, dtype):
            if point.name in passed_over:
                continue
            if complaint := CHECKERS[checker](point, dtype):
                if complaint.startswith("vjp: raises"):
                    # No silent bug, but one that anybody would see.
                    raise RuntimeError(f"this mutant does not run: {mutant.name}: {complaint}")
                return complaint
    return ""


def false_alarms(checker: str, dtype: Precision, ops: Sequence[str]) -> tuple[int, list[str]]:
    """Return how many points the ops have, and at which of them a checker complains of no bug."""
    with jax.enable_x64(dtype == "float64"):
        every = [point for op in ops for point in points(op, dtype)]
        return len(every), [p.name for p in every if CHECKERS[checker](p, dtype)]


def random_correct_case(k: int) -> tuple[Entry, Shape, str, str]:
    """Check the k-th random case of the ops as they are; return it and what gradcheck finds."""
    rng = np.random.default_rng([2, k])
    entry = CATALOG[k % len(CATALOG)]
    shape = CORRECT_SHAPES[rng.integers(len(CORRECT_SHAPES))]
    dtype = CORRECT_DTYPES[rng.integers(len(CORRECT_DTYPES))]
    with jax.enable_x64(dtype == "float64"):
        report = gradcheck(entry.function, *entry.sample(rng, shape, jnp.dtype(dtype)))
    return entry, shape, dtype, "" if report.ok else str(report)


# --- the command ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """Plant bugs in the ops and count which checker of gradients finds them."""

    only: tuple[str, ...] = ()
    """Ops to break; all if none is named."""
    kind: tuple[str, ...] = ()
    """Kinds of bugs to plant; all if none is named."""
    cases: Annotated[int, tyro.conf.arg(metavar="COUNT")] = 1000
    """Random correct cases on which gradcheck must raise no alarm."""
    peers: bool = True
    """Put `check_grads` and `chex` beside gradcheck."""
    precision: tuple[Precision, ...] = PRECISIONS
    """What to look for the bugs in, each alone."""
    rows: Literal["kind", "op"] = "kind"
    """What a row of the table is."""


def main(options: Options) -> int:
    """Run everything; return the exit status."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    unknown = set(options.only) - {m.op for m in MUTANTS} | set(options.kind) - {
        m.kind for m in MUTANTS
    }
    if unknown:
        console.print(f"no mutant is of {', '.join(sorted(unknown))}")
        return 2
    start = time.monotonic()
    mutants = [
        mutant
        for mutant in MUTANTS
        if (not options.only or mutant.op in options.only)
        and (not options.kind or mutant.kind in options.kind)
    ]
    checkers = list(CHECKERS) if options.peers else ["gradcheck"]
    columns = [(checker, dtype) for checker in checkers for dtype in options.precision]
    ops = list(dict.fromkeys(mutant.op for mutant in mutants))
    alarms = {
        column: false_alarms(*column, ops)
        for column in track(columns, "checking the ops as they are", console=console)
    }
    killed: dict[tuple[str, str], list[bool]] = {column: [] for column in columns}
    survivors = []
    for mutant in track(mutants, "planting bugs", console=console):
        for checker, dtype in columns:
            complaint = found(checker, mutant, dtype, alarms[checker, dtype][1])
            killed[checker, dtype].append(bool(complaint))
            if checker == "gradcheck" and not complaint:
                survivors.append(f"gradcheck misses in {dtype}: {mutant.name}")
        # What one bug had compiled is of little use to the next, and takes gigabytes.
        jax.clear_caches()

    console.print(_table([getattr(mutant, options.rows) for mutant in mutants], killed))
    for survivor in survivors:
        console.print(survivor, markup=False)
    for (checker, dtype), (count, names) in alarms.items():
        console.print(
            f"{checker} in {dtype}: {len(names)} false alarms at the same {count} points without a "
            f"bug{': ' if names else ''}{', '.join(names)}",
            markup=False,
        )
    wrong = sum(len(alarms["gradcheck", dtype][1]) for dtype in options.precision)
    for k in track(range(options.cases), "checking correct cases", console=console):
        entry, shape, dtype, complaint = random_correct_case(k)
        if complaint:
            wrong += 1
            console.print(
                f"false alarm, case {k}: {entry.name} {list(shape)} {dtype}\n{complaint}",
                markup=False,
            )
    console.print(
        f"gradcheck: {len(survivors)} bugs missed; {wrong} false alarms, at the points above and "
        f"in {options.cases} random correct cases; {time.monotonic() - start:.0f} s"
    )
    return 1 if survivors or wrong else 0


def _table(groups: Sequence[str], killed: dict[tuple[str, str], list[bool]]) -> Table:
    """Return how many bugs of each group, and of all, were found; a column a checker and dtype."""
    table = Table(
        "",
        "planted",
        title="Planted bugs, and how many of them each checker finds",
        caption="check_grads and chex at order 1 in reverse mode, by their default tolerances",
    )
    for checker, dtype in killed:
        table.add_column(f"{checker}\n{dtype}", justify="right")
    for group in dict.fromkeys(groups):
        chosen = [g == group for g in groups]
        counts = [sum(c and f for c, f in zip(chosen, x, strict=True)) for x in killed.values()]
        table.add_row(group, str(sum(chosen)), *map(str, counts))
    table.add_section()
    table.add_row("all", str(len(groups)), *(str(sum(column)) for column in killed.values()))
    return table


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=Options.__doc__)))
