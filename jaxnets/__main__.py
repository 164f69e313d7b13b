"""The command line of the checker: `python -m jaxnets check` and `python -m jaxnets costs`."""

import contextlib
import functools
import importlib
import io
import re
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from jaxnets import ops
from jaxnets.catalog import CATALOG
from jaxnets.costs import Costs, costs
from jaxnets.gradcheck import gradcheck

_CHECKED_SHAPE = (8, 16)
_MEASURED_SHAPE = (1024, 256)

Target = Annotated[
    str | None,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="[OP|PACKAGE.MODULE:FUNCTION]",
        help="An op of jaxnets, or any function that JAX can differentiate; all ops if left out.",
    ),
]
Shapes = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        metavar="SHAPE [SHAPE ...]",
        help="One shape an argument, its axes joined by commas: 8,16 16 16; () for a scalar. The "
        "arguments are drawn from the standard normal distribution. Needed for a function of "
        "yours; an op of jaxnets has arguments of its own.",
    ),
]
Dtype = Annotated[
    Literal["float64", "float32", "bfloat16", "float16"],
    tyro.conf.arg(help="The dtype of the arguments."),
]


def check(target: Target = None, /, shapes: Shapes = (), dtype: Dtype = "float32") -> int:
    """Check gradients against autodiff, finite differences and their contract.

    One row an op: checks passed, the worst error of value and gradients in units in the last place
    (ULP) against float64, and what the gradient costs beside autodiff's: residuals (bytes saved
    between forward and backward, as multiples of the input's), floating-point operations and time.
    Ends with status 1 if a check failed.
    """
    table = _table("op", "checks", "ULP", "residuals", "FLOPs", "time")
    table.caption = (
        f"checked in {dtype} and float64; ULP: worst error in {dtype}; residuals: explicit | "
        "autodiff, in inputs; FLOPs and time: explicit / autodiff"
    )
    failed = []
    with jax.enable_x64(dtype == "float64"):
        for name, function, sample in _progress(_chosen(target, shapes)):
            report = gradcheck(function, *sample(_CHECKED_SHAPE, dtype))
            cost = costs(function, *sample(_MEASURED_SHAPE, dtype))
            if not report.ok:
                failed.append(report)
            ran = [check for check in report.checks if check.status != "skipped"]
            errors = [check.ulps for check in ran if check.dtype == dtype]
            table.add_row(
                name,
                f"{len(ran) - len(report.failures)}/{len(ran)}",
                f"{max(errors):.1f}",
                _residuals(cost),
                f"{cost.explicit.flops / cost.autodiff.flops:.2f}",
                f"{cost.time_ratio:.2f}",
            )
    _print(table)
    for report in failed:
        print(f"\n{report}")
    return 1 if failed else 0


def costs_command(target: Target = None, /, shapes: Shapes = (), dtype: Dtype = "float32") -> int:
    """Measure what gradients cost, explicit beside autodiff.

    Bytes saved between forward and backward (as multiples of the input's), floating-point
    operations, bytes read and written, peak memory of the compiled program, and time.
    """
    table = _table("op", "residuals", "MFLOP", "accessed (MB)", "peak (MB)", "time (µs)", "ratio")
    table.caption = (
        f"{dtype}; explicit | autodiff; residuals: in inputs; accessed: read and written; peak: "
        "memory; ratio: of the times"
    )
    measured: Costs | None = None
    chosen = _chosen(target, shapes)
    with jax.enable_x64(dtype == "float64"):
        for name, function, sample in _progress(chosen):
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
        _print(table)
    return 0


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), caption_justify="left")
    table.add_column(columns[0], min_width=24, overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _print(table: Table) -> None:
    # A file or a pipe has no width, and takes the table as wide as it is.
    console = Console()
    Console(width=None if console.is_terminal else 120).print(table)


def _residuals(cost: Costs) -> str:
    return " | ".join(
        f"{way.residual_bytes / cost.input_bytes:.2f}" for way in (cost.explicit, cost.autodiff)
    )


def _progress(chosen: list) -> Iterator:
    console = Console(stderr=True)
    return iter(
        track(chosen, description="measuring", console=console, transient=True)
        if console.is_terminal
        else chosen
    )


def _chosen(target: str | None, shapes: tuple[str, ...]) -> list[tuple[str, Callable, Callable]]:
    """Return (name, function, sample) of what the user asked for; `sample(shape, dtype)`."""
    if not shapes and (target is None or ":" not in target):
        entries = [entry for entry in CATALOG if target in (None, entry.op)]
        if not entries:
            known = ", ".join(dict.fromkeys(entry.op for entry in CATALOG))
            _refuse(f"no op is called {target!r}; there are {known}; PACKAGE.MODULE:FUNCTION works")
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
        _refuse("--shapes goes with an op or a PACKAGE.MODULE:FUNCTION")
    if not shapes:
        _refuse(f"{target} needs --shapes, one an argument, such as --shapes 8,16 16")
    function = _imported(target)
    parsed = [_parsed_shape(shape) for shape in shapes]

    def sample(_, dtype):
        rng = np.random.default_rng(0)
        return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in parsed]

    try:
        jax.eval_shape(function, *sample((), "float32"))
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        _refuse(f"{target} does not take arguments of shapes {' '.join(shapes)}: {reason}")
    return [(target, function, sample)]


def _imported(target: str) -> Callable:
    if ":" not in target:
        if target not in ops.__all__:
            _refuse(f"no op is called {target!r}; there are {', '.join(ops.__all__)}")
        return getattr(ops, target)
    module_name, _, attribute = target.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        _refuse(f"cannot import {target}: {error}")
    if not callable(function):
        _refuse(f"{target} is {type(function).__name__}, not a function")
    return function


def _parsed_shape(text: str) -> tuple[int, ...]:
    axes = text.strip("()").rstrip(",")
    try:
        shape = tuple(int(axis) for axis in axes.split(",")) if axes else ()
    except ValueError:
        shape = (-1,)
    if min(shape, default=0) < 0:
        _refuse(f"--shapes: {text!r} is not a shape; write its axes as in 8,16, or () for a scalar")
    return shape


def _refuse(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def main() -> None:
    """Run the subcommand that the command line names."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            command = tyro.extras.subcommand_cli_from_dict(
                {"check": _later(check), "costs": _later(costs_command)},
                prog="python -m jaxnets",
                description="Hand-written gradients, checked and measured.",
            )
    except SystemExit as stop:
        if not stop.code:
            raise  # After the help.
        _, _, rest = errors.getvalue().partition("\n")  # Of its box: without title and frame.
        _refuse(" ".join(re.sub("[─-╿]", " ", rest).split()))
    raise SystemExit(command())


def _later(command: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    """A command that tyro reads the words of, and leaves to be called."""

    @functools.wraps(command)
    def read(*args: Any, **kwargs: Any) -> Callable[[], int]:
        return functools.partial(command, *args, **kwargs)

    return read


if __name__ == "__main__":
    main()
