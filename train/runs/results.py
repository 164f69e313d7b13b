"""The runs of a sweep in Python: a table, data frames, figures and the trained networks."""

import html
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rich.console import Console

from train.metrics import METRICS, SETS, Record
from train.report import figures, labels, tables
from train.report.figures import FORMATS
from train.run_directory.summary import configuration
from train.runs.trained import Network

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class RunRecords(NamedTuple):
    """A run that was trained.

    Attributes:
        number: which run of the sweep it is.
        flags: its flags, by name.
        records: its evaluations, as in metrics.jsonl.
    """

    number: int
    flags: dict[str, Any]
    records: Sequence[Record]


class Runs:
    """The runs of a sweep, as `train.fit` and `train.load` return them.

    In a terminal and in a notebook it shows as the table of its configurations, the best first.
    `runs[3]` is the network of run 3, and `len(runs)` the number of runs.

    Attributes:
        summary: what summary.json holds: versions, device, data, and a row per configuration.
        path: the run directory, if there is one.
    """

    def __init__(
        self,
        summary: dict[str, Any],
        runs: Sequence[RunRecords],
        network: Callable[[int], Network],
        name: str,
        path: Path | None = None,
    ):
        """Hold results.

        Args:
            summary: what summary.json holds, or would.
            runs: the runs that were trained.
            network: makes the network of a run, by its index.
            name: of the network, for figures.
            path: the run directory.
        """
        self.summary, self.path = summary, path
        self._runs = {run.number: run for run in runs}
        self._network, self._name = network, name

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, index: int) -> Network:
        """Return the network of a run; raise an `IndexError` where there is no such run."""
        if index not in self._runs:
            raise IndexError(f"there is no run {index} among {len(self)} runs")
        return self._network(index)

    def __iter__(self) -> Iterator[Network]:
        """Yield the networks of all runs, in their order."""
        return (self[index] for index in self._runs)

    @property
    def best(self) -> Network:
        """The network of the first run of the best configuration that did not diverge.

        Raises:
            FloatingPointError: all runs of it diverged.
        """
        row = self.summary["rows"][0]
        for index, diverged in zip(self._numbers(row), row["diverged"], strict=True):
            if diverged is None:
                return self[index]
        raise FloatingPointError("all runs diverged; a smaller learning_rate may help")

    def __repr__(self) -> str:
        text = io.StringIO()
        plain = Console(file=text, width=80, force_jupyter=False, force_terminal=False)
        plain.print(tables.table(self.summary))
        return text.getvalue().rstrip()

    def _repr_html_(self) -> str:
        import pandas as pd

        found = tables.cells(self.summary)
        headings = [heading.replace("\n", " ") for heading in found.headings]
        table = pd.DataFrame(found.rows, columns=headings).to_html(index=False, border=0)
        title, *notes = (f"<p>{html.escape(text)}</p>" for text in (found.title, *found.notes))
        return "".join([title, table, *notes])

    def frame(self, each: Literal["run", "configuration"] = "run") -> "pd.DataFrame":
        """Return the results as a data frame of pandas.

        Args:
            each: what has a row: every run, with its final metrics; or every configuration, the
                best first, with their means and, as `NAME_std`, their standard deviations.

        Returns:
            The flags that differ, then the results; the index is that of the run, or the rank. A
            metric of a run that diverged is missing (NaN).
        """
        import pandas as pd

        if each not in ("run", "configuration"):
            raise ValueError(f"each={each!r}: must be 'run' or 'configuration'")
        rows, names = self.summary["rows"], labels.varying(self.summary["rows"])
        metrics = [f"{of}_{name}" for of in SETS for name in METRICS]
        metrics = [name for name in metrics if any(name in row for row in rows)]
        found: dict[int, dict[str, Any]] = {}
        for rank, row in enumerate(rows):
            flags = {name: row["config"].get(name) for name in names}
            if each == "configuration":
                found[rank] = {**flags, "runs": len(row["seeds"])}
                found[rank]["diverged"] = sum(step is not None for step in row["diverged"])
                for name in metrics:
                    found[rank][name] = row[name]["final"]["mean"]
                    found[rank][f"{name}_std"] = row[name]["final"]["std"]
                continue
            for position, index in enumerate(self._numbers(row)):
                found[index] = {**flags, "seed": row["seeds"][position]}
                if row["folds"]:
                    found[index]["fold"] = row["folds"][position]
                for name in metrics:
                    found[index][name] = row[name]["final"]["values"][position]
                found[index]["diverged"] = row["diverged"][position]
                found[index]["stopped"] = row["stopped"][position]
        frame = pd.DataFrame.from_dict(found, orient="index").sort_index()
        numbers = [*metrics, *(f"{name}_std" for name in metrics)]
        return frame.astype({name: float for name in numbers if name in frame})

    def plot(self, path: str | os.PathLike[str] | None = None) -> "Figure":
        """Draw loss and accuracy along the training; of several configurations, compare them.

        A grid over two numbers has a heat map below, a random search the metric over each number.

        Args:
            path: a file to write, whose suffix is the format: png, pdf or svg. None to write none.

        Returns:
            The figure of matplotlib, which a notebook shows.
        """
        where = None if path is None else Path(path).expanduser()
        if where is not None and where.suffix not in FORMATS:
            raise ValueError(f"path {where}: must end in {', '.join(FORMATS)}")
        found = [
            (row, [self._runs[number].records for number in self._numbers(row)])
            for row in self.summary["rows"]
        ]
        return figures.results(found, where, self._name, self.summary["dataset"])

    def _numbers(self, row: dict[str, Any]) -> list[int]:
        """The runs of a configuration."""
        return [
            run.number for run in self._runs.values() if configuration(run.flags) == row["config"]
        ]

    def history(self) -> "pd.DataFrame":
        """Return all evaluations as a data frame of pandas: a row per evaluation of a run."""
        import pandas as pd

        return pd.DataFrame([record for run in self._runs.values() for record in run.records])
