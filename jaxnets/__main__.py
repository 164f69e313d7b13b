"""Hand-written gradients, checked and measured, and networks trained with them.

python -m jaxnets check
python -m jaxnets check layer_norm --dtype bfloat16
python -m jaxnets costs package.module:function --shapes 8,16 16
python -m jaxnets audit package.module:function --shapes 8,16 16
python -m jaxnets mlp --hidden 500-100
"""

# Long: three commands, and what each of them is given.

import gc
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from jaxnets import audit, ops
from jaxnets._catalog import CATALOG
from jaxnets._checking.contract import CHECKS
from jaxnets._costs import Costs, costs
from jaxnets._gradcheck import GradCheck
from train.custom_network.source import imported
from train.errors import Refusal
from train.flags.suggestions import near
from train.flags.terminal import shortened
from train.processes.exit_status import answer
from train.processes.launch import described, run_command
from train.report.console import output

_CHECKED_SHAPE = (8, 16)
_MEASURED_SHAPE = (1024, 256)
_WIDE = 120  # What the tables take in a file or a pipe.

Target = Annotated[
    str | None,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="OP|PACKAGE.MODULE:FUNCTION",
        help="An op of jaxnets, or any function that JAX can differentiate.",
        help_behavior_hint="(default: all ops)",
    ),
]
Shapes = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        metavar="SHAPE [SHAPE ...]",
        help="One shape an argument, its axes joined by commas: 8,16 16 16; () for a scalar. The "
        "arguments are drawn from the standard normal distribution. Needed for a function of "
        "yours.",
        help_behavior_hint="(default: those of the op)",
    ),
]
Dtype = Annotated[
    Literal["float64", "float32", "bfloat16", "float16"],
    tyro.conf.arg(help="The dtype of the arguments."),
]


class Check(NamedTuple):
    """Check gradients against autodiff, finite differences and their contract.

    One row an op: checks passed, the worst error of value and gradients in units in the last place
    (ULP) against float64, and what the gradient costs beside autodiff's: residuals (bytes saved
    between forward and backward, as multiples of the input's), floating-point operations and time.
    Ends with status 1 if a check failed.

    python -m jaxnets check
    python -m jaxnets check layer_norm --dtype bfloat16
    python -m jaxnets check package.module:function --shapes 8,16 16
    python -m jaxnets check file.py:function --shapes 8,16 16 --wrt x --fast
    """

    target: Target = None
    shapes: Shapes = ()
    dtype: Dtype = "float32"
    wrt: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="ARGUMENT [ARGUMENT ...]",
            help="The arguments whose gradient is checked.",
            help_behavior_hint="(default: all)",
        ),
    ] = ()
    points: Annotated[
        int, tyro.conf.arg(metavar="COUNT", help="At how many points each gradient is checked.")
    ] = 1
    only: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="CHECK [CHECK ...]",
            help=f"The checks to run, of {', '.join(CHECKS)}.",
            help_behavior_hint="(default: all)",
        ),
    ] = ()
    fast: Annotated[
        bool,
        tyro.conf.arg(
            help="Run what takes least, after each edit: first order and contract, one dtype, no "
            "costs.",
        ),
    ] = False


class Audit(NamedTuple):
    """Check every hand-written gradient in a program, on the values that reach it.

    Finds every jax.custom_vjp rule in the function, at any depth, and checks each. Ends with status
    1 if a check failed, or a rule could not be checked.

    python -m jaxnets audit package.module:function --shapes 8,16 16
    python -m jaxnets audit file.py:loss --shapes 8,16 16,4
    python -m jaxnets audit batch_norm --shapes 8,16 16 16
    """

    target: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="OP|PACKAGE.MODULE:FUNCTION", help="A function of arrays."),
    ]
    shapes: Shapes = ()
    dtype: Dtype = "float32"


class Measure(NamedTuple):
    """Measure what gradients cost, explicit beside autodiff.

    Bytes saved between forward and backward (as multiples of the input's), floating-point
    operations, bytes read and written, peak memory of the compiled program, and time.

    python -m jaxnets costs
    python -m jaxnets costs gelu --dtype bfloat16
    python -m jaxnets costs package.module:function --shapes 8,16 16
    """

    target: Target = None
    shapes: Shapes = ()
    dtype: Dtype = "float32"


def _check(asked: Check) -> int:
    target, shapes, dtype = asked.target, asked.shapes, asked.dtype
    try:
        settings = GradCheck(wrt=asked.wrt, only=asked.only, points=asked.points)
    except ValueError as error:
        said = next((near(name, CHECKS) for name in asked.only if name not in CHECKS), "")
        raise Refusal(f"--{error}{said}") from error
    if asked.fast:
        slow = ("second order", "hessian", "vmap", "finite differences", "second differences")
        settings = settings.replace(skip=slow, dtypes=(dtype,))
    table = _table("op", "checks", "ULP", "residuals", "FLOPs", "time")
    table.caption = (
        f"checked in {dtype} and float64; ULP: worst error in {dtype}; residuals: explicit | "
        "autodiff, in inputs; FLOPs and time: explicit / autodiff"
    )
    failed = []
    with jax.enable_x64(dtype == "float64"):
        for name, function, sample in _progress(_chosen(target, shapes), "checked"):
            try:
                report = settings(function, *sample(_CHECKED_SHAPE, dtype))
            except ValueError as error:
                raise Refusal(f"{name}: {error}") from error
            cost = None if asked.fast else costs(function, *sample(_MEASURED_SHAPE, dtype))
            if not report.ok:
                failed.append(report)
            ran = [check for check in report.checks if check.status != "skipped"]
            errors = [check.ulps for check in ran if check.dtype == dtype]
            table.add_row(
                name,
                f"{len(ran) - len(report.failures)}/{len(ran)}",
                f"{max(errors, default=math.nan):.1f}",
                _residuals(cost) if cost else "-",
                f"{cost.explicit.flops / cost.autodiff.flops:.2f}" if cost else "-",
                f"{cost.time_ratio:.2f}" if cost else "-",
            )
    output(_WIDE).print(table)
    for report in failed:
        print(f"\n{report}")
    return 1 if failed else 0


def _audit(asked: Audit) -> int:
    if not asked.shapes:
        raise Refusal(f"audit {asked.target} needs --shapes, one an argument, such as 8,16 16")
    ((_, function, sample),) = _chosen(asked.target, asked.shapes)
    with jax.enable_x64(asked.dtype == "float64"):
        found = audit(function, *sample(None, asked.dtype))
    print(found)
    return 0 if found.ok else 1


def _measure(target: str | None, shapes: tuple[str, ...], dtype: str) -> int:
    table = _table("op", "residuals", "MFLOP", "accessed (MB)", "peak (MB)", "time (µs)", "ratio")
    table.caption = (
        f"{dtype}; explicit | autodiff; residuals: in inputs; accessed: read and written; peak: "
        "memory; ratio: of the times"
    )
    measured: Costs | None = None
    chosen = _chosen(target, shapes)
    with jax.enable_x64(dtype == "float64"):
        for name, function, sample in _progress(chosen, "measured"):
            measured = costs(function, *sample(_MEASURED_SHAPE, dtype))
            ours, theirs = measured.explicit, measured.autodiff
            table.add_row(
                name,
                _residuals(measured),
                f"{ours.flops / 1e6:.3g} | {theirs.flops / 1e6:.3g}",
                f"{ours.bytes_accessed / 1e6:.1f} | {theirs.bytes_accessed / 1e6:.1f}",
                f"{ours.peak_bytes / 1e6:.1f} | {theirs.peak_bytes / 1e6:.1f}",
                f"{ours.seconds * 1e6:.0f} | {theirs.seconds * 1e6:.0f}",
                f"{measured.time_ratio:.2f}",
            )
    if len(chosen) == 1:
        print(measured)
    else:
        output(_WIDE).print(table)
    return 0


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), caption_justify="left")
    table.add_column(columns[0], min_width=24, overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _residuals(cost: Costs) -> str:
    return " | ".join(
        f"{way.residual_bytes / cost.input_bytes:.2f}" for way in (cost.explicit, cost.autodiff)
    )


def _progress(chosen: list, verb: str) -> Iterator:
    """Yield the rows, and show on stderr which of them is worked on, and how many are done.

    A bar on a terminal; elsewhere a line for each row that is done, where there are several.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        for number, row in enumerate(chosen, 1):
            yield row
            if len(chosen) > 1:
                print(f"{verb} {row[0]} ({number}/{len(chosen)})", file=sys.stderr, flush=True)
        return
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(chosen))
        for row in chosen:
            progress.update(task, description=row[0])
            yield row
            progress.advance(task)


def _chosen(target: str | None, shapes: tuple[str, ...]) -> list[tuple[str, Callable, Callable]]:
    """Return (name, function, sample) of what the user asked for; `sample(shape, dtype)`."""
    if not shapes and (target is None or ":" not in target):
        entries = [entry for entry in CATALOG if target in (None, entry.op)]
        if not entries:
            raise _no_op(target, list(dict.fromkeys(entry.op for entry in CATALOG)))
        return [
            (
                entry.name,
                entry.function,
                lambda shape, dtype, entry=entry: entry.sample(
                    np.random.default_rng(0), shape, jnp.dtype(dtype)
                ),
            )
            for entry in entries
        ]
    if target is None:
        raise Refusal("--shapes goes with an op or a PACKAGE.MODULE:FUNCTION")
    if not shapes:
        raise Refusal(f"{target} needs --shapes, one an argument, such as --shapes 8,16 16")
    parsed = [_parsed_shape(shape) for shape in shapes]
    function = _imported(target)

    def sample(_, dtype):
        rng = np.random.default_rng(0)
        return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in parsed]

    abstract = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in parsed]
    try:
        found = jax.eval_shape(function, *abstract)
    except (Exception, SystemExit) as error:
        raise Refusal(
            f"{target} does not take arguments of shapes {' '.join(shapes)}: {_said(error)}"
        ) from error
    if not any(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(found)):
        raise Refusal(f"{target} returns no real or complex array: it has no gradient")
    return [(target, function, sample)]


def _imported(target: str) -> Callable:
    if ":" not in target:
        if target not in ops.__all__:
            raise _no_op(target, ops.__all__)
        return getattr(ops, target)
    module_name, _, attribute = target.rpartition(":")
    try:
        module = imported(module_name)
    except (Exception, SystemExit) as error:  # A module may do anything while it is imported.
        raise Refusal(f"cannot import {target}: {_said(error)}") from error
    try:
        function = getattr(module, attribute)
    except AttributeError as error:
        raise Refusal(f"cannot import {target}: {error}{near(attribute, dir(module))}") from error
    if not callable(function):
        raise Refusal(f"{target} is {type(function).__name__}, not a function")
    return function


def _no_op(target: str | None, known: Sequence[str]) -> Refusal:
    target = target or ""
    module, _, function = target.rpartition(".")
    meant = f"; did you mean {module}:{function}?" if module and function else near(target, known)
    return Refusal(
        f"no op is called {shortened(target)!r}: must be PACKAGE.MODULE:FUNCTION, or one of "
        f"{', '.join(known)}{shortened(meant)}"
    )


def _said(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _parsed_shape(text: str) -> tuple[int, ...]:
    axes = text.strip("()").rstrip(",")
    try:
        shape = tuple(int(axis) for axis in axes.split(",")) if axes else ()
    except ValueError:
        shape = (-1,)
    shown = repr(shortened(text))
    if min(shape, default=0) < 0 or not text:
        raise Refusal(
            f"--shapes: {shown} is not a shape; write its axes as in 8,16, or () for a scalar"
        )
    if 0 in shape:
        raise Refusal(f"--shapes: {shown} has no entries, and so no gradient; take axes from 1 on")
    if math.prod(shape) > 2**31:
        raise Refusal(f"--shapes: {shown} has more than 2^31 entries; take shorter axes")
    return shape


def main() -> None:
    """Run the subcommand that the command line names."""
    # Nearly all that JAX allocates while it traces stays in use; do not look through it so often.
    gc.set_threshold(100_000, 20, 100)

    def work(asked: Check | Measure | Audit) -> int:
        if isinstance(asked, Check):
            return _check(asked)
        return _audit(asked) if isinstance(asked, Audit) else _measure(*asked)

    if (status := run_command(sys.argv[1:])) is not None:
        raise SystemExit(status)
    commands: dict[str, Any] = {"check": Check, "costs": Measure, "audit": Audit, **described()}
    raise SystemExit(answer(commands, work, None, "python -m jaxnets", __doc__))


if __name__ == "__main__":
    main()
