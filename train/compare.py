"""Compare run directories: one table and one figure of all their configurations.

python -m train.compare runs/a runs/b
python -m train.compare runs/* --out figures/all.svg
python -m train.compare runs/sweep --out sweep.pdf
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from train import metrics
from train.errors import StoreError
from train.flags.typed import as_typed
from train.processes.exit_status import answer
from train.report import figures, tables
from train.report.console import output
from train.run_directory import files, reader, summary
from train.run_directory.reader import Results

_Directories = Annotated[
    tyro.conf.Positional[tuple[Path, ...]],
    tyro.conf.arg(metavar="RUN_DIR", help="The run directories.", help_behavior_hint="(required)"),
]
_Out = Annotated[
    Path,
    tyro.conf.arg(
        metavar="FILE",
        help="The figure: png, pdf or svg. The numbers go to a .json file beside it. Both replace "
        "those of an earlier comparison, and nothing else.",
    ),
]

_KEYS = {"compared", "ranked_by", "same_data", "rows"}  # Of the numbers.


class Arguments(NamedTuple):
    """The flags of the command."""

    directories: _Directories
    out: _Out = Path("compare.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status, see `exit_status.answer`."""
    return answer(
        Arguments, lambda asked: _compare(*asked), arguments, "python -m train.compare", __doc__
    )


def _compare(directories: Sequence[Path], out: Path) -> None:
    if not directories:
        raise StoreError("RUN_DIR: needs at least one run directory")
    _check_out(out)
    found = summary.ranked(
        pair for path in directories for pair in _configurations(reader.read(path))
    )
    rows = [row for row, _ in found]

    datasets = [row["dataset"] for row in rows]
    names = list(dict.fromkeys(dataset["name"] for dataset in datasets))
    fingerprints = {dataset["fingerprint"] for dataset in datasets}
    caution = ""
    if len(names) > 1 or len(fingerprints) > 1:
        caution = "the data sets differ: these accuracies do not compare, and none is the best"
    descriptions = dict.fromkeys(dataset["description"] for dataset in datasets)
    dataset = {"name": ", ".join(names), "description": " ".join(filter(None, descriptions))}

    title = f"{len(directories)} run directories on {dataset['name']}"
    note = dataset["description"] + (f" Beware: {caution}." if caution else "")
    compared = {
        "compared": [str(path) for path in directories],
        "ranked_by": f"{summary.judge(*rows)}_accuracy",
        "same_data": not caution,
        "rows": rows,
    }
    # The numbers first: they tell a later comparison that the figure is one, and may be replaced.
    files.write_json(out.with_suffix(".json"), compared)
    figures.bands(found, out, title, note)
    numbers = out.with_suffix(".json")
    results = {"dataset": dataset, "rows": rows}
    output().print(tables.table(results, caution, str(numbers)))
    print(f"\nfigure   {out}\nnumbers  {numbers}")
    print(f"\n{as_typed(tables.closing(results, [_next(rows[0])], caution))}".rstrip())


def _next(row: dict[str, Any]) -> str:
    """The command that comes next for a configuration."""
    path = shlex.quote(row["run_directory"])
    if row.get("unfinished") is not None:
        return f"python -m {row['config']['command']} --resume {path}"
    return f"python -m train.evaluate {path}"


def _configurations(run: Results) -> list[tuple[dict[str, Any], list[list[metrics.Record]]]]:
    """The configurations of a run directory, whose rows name it, its command and its data."""
    beside = {"run_directory": str(run.path), "dataset": reader.dataset_of(run)}
    return [
        ({**row, "config": {"command": run.config.command, **row["config"]}, **beside}, records)
        for row, records in reader.configurations(run)
    ]


def _check_out(out: Path) -> None:
    """Raise a `StoreError` unless the figure may be written, and the numbers beside it."""
    if out.suffix not in figures.FORMATS:
        raise StoreError(f"--out {out}: must end in {', '.join(figures.FORMATS)}")
    numbers = out.with_suffix(".json")
    if not out.parent.is_dir():
        raise StoreError(f"--out {out}: {out.parent} is not a folder")
    try:
        ours = files.parsed_json(numbers.read_bytes()).keys() >= _KEYS
    except (OSError, ValueError):
        ours = False
    for path in (out, numbers):
        if path.exists() and not ours:
            raise StoreError(
                f"--out {out}: {path} is there and no earlier comparison; name another file"
            )


if __name__ == "__main__":
    sys.exit(main())
