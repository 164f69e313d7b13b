"""Judge rules that others wrote: `python -m tests.benchmarks.public_rules`.

Runs `gradcheck`, and beside it `jax.test_util.check_grads`, on functions of public packages whose
derivative is not autodiff's: `pip install '.[public-rules]'`. A package that is not installed is
skipped, and said to be. The table is written to tests/benchmarks/tables/public-rules.md, too.

tokamax is not among them, because it needs another typeguard than the training commands: install it
afterwards, and name it: `--only tokamax`. TFP 0.25, distrax and rlax do not import beside this JAX.
"""

import argparse
import importlib.metadata
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.test_util
from rich import box
from rich.console import Console
from rich.table import Table

from jaxnets import gradcheck
from tests.benchmarks import public_solvers
from tests.benchmarks.public_functions import Function

FUNCTIONS = public_solvers.FUNCTIONS
TABLE = Path(__file__).parent / "tables" / "public-rules.md"


class Judged(NamedTuple):
    """What the checkers say of one function; the rest is empty where it could not be run."""

    function: Function
    version: str
    verdict: str = ""
    peer: str = ""
    seconds: float = 0.0
    said: str = ""

    @property
    def truth(self) -> str:
        """What the verdict should be: "right" as well for a gradient that differs on purpose."""
        return "wrong" if self.function.wrong else "right"


def verdict_of(function: Callable, arguments: Sequence, settings: dict) -> tuple[str, str]:
    """Return "right", "wrong", "unsure" or "raises" for gradcheck, and its report."""
    try:
        report = gradcheck.replace(**settings)(function, *arguments)
    except Exception as error:
        return "raises", f"{type(error).__name__}: {error}"
    return "right" if report.ok else "wrong" if report.failures else "unsure", str(report)


def peer_of(function: Callable, arguments: Sequence, settings: dict) -> str:
    """Return the same for `check_grads`, of the floating arguments, with its own tolerances."""
    try:
        jax.test_util.check_grads(function, arguments, order=1, modes=["rev"])
    except AssertionError:
        return "wrong"
    except Exception:
        return "raises"
    return "right"


def judge(function: Function) -> Judged:
    """Judge one function."""
    try:
        version = importlib.metadata.version(function.package)
        called, arguments = function.make()
        jax.config.update("jax_enable_x64", False)  # Some packages switch it on when imported.
        jax.block_until_ready(called(*arguments))
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        return Judged(function, "-", said=f"not run: {said}")
    start = time.process_time()
    verdict, said = verdict_of(called, arguments, function.settings)
    seconds = time.process_time() - start
    peer = peer_of(called, arguments, function.settings)
    return Judged(function, version, verdict, peer, seconds, said)


HEADINGS = ("package", "function", "rule", "truth", "gradcheck", "check_grads", "CPU s")


def rows_of(judged: Sequence[Judged]) -> list[tuple[str, ...]]:
    """Return a row for each function that ran."""
    return [
        (
            f"{one.function.package} {one.version}",
            one.function.name,
            one.function.kind,
            one.truth,
            one.verdict,
            one.peer,
            f"{one.seconds:.1f}",
        )
        for one in judged
    ]


def table_of(rows: Sequence[tuple[str, ...]]) -> Table:
    """Return rows as a table for a terminal."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for name in HEADINGS:
        table.add_column(name, no_wrap=True, justify="right" if name == "CPU s" else "left")
    for row in rows:
        table.add_row(*row)
    return table


def page_of(rows: Sequence[tuple[str, ...]], last: str) -> str:
    """Return rows as a page of Markdown that ends in a line."""
    head = "# Gradients of public packages\n\n`python -m tests.benchmarks.public_rules` on a CPU.\n"
    lines = [f"| {' | '.join(row)} |" for row in (HEADINGS, ["---"] * len(HEADINGS), *rows)]
    return "\n".join([head, *lines, "", last, ""])


def main() -> int:
    """Judge all; return 1 if a verdict is not the truth."""
    # Not by tyro, which is not there in the environment that tokamax needs.
    parser = argparse.ArgumentParser(description="Judge gradients of public packages.")
    parser.add_argument("--only", nargs="+", default=(), help="packages, or functions")
    parser.add_argument("--reports", action="store_true", help="print the reports that are off")
    options = parser.parse_args()
    del sys.argv[1:]  # tokamax reads them, too.
    chosen = [f for f in FUNCTIONS if not options.only or {f.package, f.name} & {*options.only}]
    console = Console(width=None if sys.stdout.isatty() else 150)
    judged = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for function in chosen:
            judged.append(judge(function))
            print(f"{function.package} {function.name}: {judged[-1].verdict}", file=sys.stderr)
            jax.clear_caches()
    ran = [one for one in judged if one.verdict]
    rows = rows_of(ran)
    console.print(table_of(rows))
    for one in judged:
        if said := one.function.wrong if one.verdict else one.said:
            name = f"{one.function.package} {one.version}: {one.function.name}"
            console.print(f"{name}: {said}", markup=False)
    off = [one for one in ran if one.verdict != one.truth]
    for one in off if options.reports else ():
        console.print(f"\n{one.function.package} {one.function.name}:\n{one.said}", markup=False)
    peers = sum(one.peer != one.truth for one in ran)
    packages = len({one.function.package for one in ran})
    last = (
        f"{len(ran)} functions of {packages} packages: gradcheck is off in {len(off)}, check_grads "
        f"in {peers}"
    )
    console.print(last)
    if not options.only:
        TABLE.write_text(page_of(rows, last), encoding="utf-8")
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
