"""Live progress."""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from train.metrics import METRICS, SETS, Record, is_known


class _Bar(Bar):
    """A bar with text below it."""

    below = ""
    compiling_since: float | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if (since := self.compiling_since) is not None:
            yield Text(f"compiling… {time.monotonic() - since:.0f} s")
        yield Text(self.below)


_LONG = 1.0  # Seconds; a compilation that takes longer is worth a line.


class Progress:
    """Live progress on a terminal, a plain line per evaluation elsewhere; a context.

    On a terminal a bar says how many steps of all runs are done, the time left, and the steps in a
    second; below it stand a clock while something is compiled, the last evaluation, and where the
    runs of a sweep are.
    """

    def __init__(self, steps: int, console: Console, runs: int = 1):
        """Prepare to show `steps` steps, those of all `runs` together, on `console`."""
        self._console = console
        self._bar = _Bar(
            MofNCompleteColumn(),
            TextColumn("steps"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("left  {task.fields[rate]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, rate="")
        self._all_runs, self._done, self._diverged = runs, 0, set[int]()
        self._steps, self._before = steps, 0
        self._group, self._runs = "", 0
        self._said_compiling = False  # Since the last evaluation.

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def begin(self, group: str, runs: int, steps: int) -> None:
        """Show that a group of a sweep begins, which takes its runs so many steps each."""
        self._done += self._runs
        self._before += self._runs * self._steps
        self._group, self._runs, self._steps = group, runs, steps
        self._bar.update(self._task, completed=self._before)
        self._bar.below = self._where(0)

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Show that something is compiled: with a clock on a terminal, as a line elsewhere."""
        if self._console.is_terminal:
            self._bar.compiling_since = time.monotonic()
            try:
                yield
            finally:
                self._bar.compiling_since = None
            return
        line = threading.Timer(_LONG, self._say_compiling)
        line.daemon = True
        line.start()
        try:
            yield
        finally:
            line.cancel()

    def _say_compiling(self) -> None:
        if not self._said_compiling:  # Of several programs in a row, one line is enough.
            self._said_compiling = True
            self._print("  ".join(filter(None, [self._group, "compiling…"])))

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    def advance(self, step: int, steps_per_second: float) -> None:
        """Show that each run of the group has done `step` steps."""
        completed = self._before + max(1, self._runs) * step
        self._bar.update(self._task, completed=completed, rate=f"{steps_per_second:,.0f} steps/s")

    def evaluated(self, records: Sequence[Record]) -> None:
        """Show an evaluation of each run of the group."""
        if not records:
            return
        self._said_compiling = False
        step, seconds = records[0]["step"], f"{records[0]['seconds']:.1f} s"
        if self._group:
            # Before the first step there may be nothing to evaluate on.
            self._diverged |= {
                r["run"] for r in records if step and not any(is_known(r, name) for name in SETS)
            }
            metrics, where = [_ranges(records)], self._where(step)
        else:
            metrics, where = _metrics(records[0]), ""
        if self._console.is_terminal:
            self._bar.below = "\n".join(filter(None, [where, *metrics]))
            return
        parts = [f"step {step:>{len(str(self._steps))}}/{self._steps}", *metrics]
        if self._group:
            parts[0] = f"{self._group}  {parts[0]} of {self._runs} run{'s' * (self._runs > 1)}"
            parts += [f"{len(self._diverged)} diverged"] * bool(self._diverged)
        line = "  ".join([*filter(None, parts), seconds])
        self._print(line)

    def _where(self, step: int) -> str:
        """Where the runs of a sweep are."""
        counts = {
            f"in training ({self._group}, step {step}/{self._steps})": self._runs,
            "done": self._done,
            "waiting": self._all_runs - self._done - self._runs,
            "diverged": len(self._diverged),
        }
        return "runs: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _metrics(record: Record) -> list[str]:
    """The metrics of each set that a run was evaluated on."""
    return [
        f"{of} " + " ".join(f"{name} {record[f'{of}_{name}']:.4f}" for name in METRICS)
        for of in SETS
        if is_known(record, of)
    ]


def _ranges(records: Sequence[Record]) -> str:
    """The metrics from the lowest run to the highest, on the set that tells the most."""
    for of in ("validation", "test", "train"):
        seen = [record for record in records if is_known(record, of)]
        if seen:
            words = []
            for name, metric in METRICS.items():
                values = [record[f"{of}_{name}"] for record in seen]
                words.append(f"{name} {min(values):{metric.form}} to {max(values):{metric.form}}")
            return f"{of} {', '.join(words)}"
    return ""
