"""Repeat the experiments of five course reports, and see their numbers beside ours.

python -m train.reproduce
python -m train.reproduce A1 E6 --seeds 5
python -m train.reproduce all --quick
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from train import metrics
from train.errors import ConfigError
from train.flags.constraints import check_value
from train.flags.options import DataDir
from train.flags.suggestions import near, separated
from train.flags.terminal import shortened
from train.flags.typed import as_typed
from train.processes.exit_status import answer
from train.report import figures, panels
from train.report.console import output
from train.reproduce.experiments import EXPERIMENTS, Experiment, Reported
from train.reproduce.quick import QUICK_STEPS, QUICK_TEST, QUICK_TRAIN, reduced, reduced_steps
from train.run_directory import files, reader, summary

_Names = Annotated[
    tyro.conf.Positional[tuple[str, ...]],
    tyro.conf.arg(
        metavar="NAME",
        help="Experiments, or all.",
        help_behavior_hint="(default: list them)",
    ),
]
_Seeds = Annotated[int, tyro.conf.arg(help="Number of runs of each configuration.")]
_Quick = Annotated[
    bool,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.arg(
        help=f"A reduced form: one seed, at most {QUICK_STEPS} steps, {QUICK_TRAIN} training and "
        f"{QUICK_TEST} test images."
    ),
]
_Out = Annotated[
    Path,
    tyro.conf.arg(
        metavar="DIR",
        help="Where the run directories and results are kept; what is there is resumed.",
    ),
]


# A row of summary.json, and the evaluations of each of its runs.
_Found = tuple[dict[str, Any], list[list[metrics.Record]]]


class Options(NamedTuple):
    """The flags of the command."""

    names: _Names = ()
    seeds: _Seeds = 3
    quick: _Quick = False
    data_dir: DataDir = None
    out: _Out = Path("runs/reproduce")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status, that of the first command that fails."""
    return answer(Options, _reproduce, arguments, "python -m train.reproduce", __doc__)


def _reproduce(options: Options) -> int:
    check_value("seeds", options.seeds)
    chosen = select(options.names)
    if not chosen:
        listing(output())
    for experiment in chosen:
        status = reproduce(experiment, options)
        if status:
            return status
    return 0


def select(names: Sequence[str]) -> list[Experiment]:
    """Return the experiments of these names, in their order; raise a `ConfigError` for others."""
    known = {experiment.name.lower(): experiment for experiment in EXPERIMENTS}
    for name in names:
        if name.lower() not in (*known, "all"):
            every = [experiment.name for experiment in EXPERIMENTS]
            words = separated(names)
            meant = near(name, every)
            if separated([name]) != [name]:
                meant = f"; they are separated by spaces: {' '.join(words)}" if words else ""
            raise ConfigError(
                f"experiment {shortened(name)}: must be all, or one of {', '.join(every)}"
                f"{shortened(meant)}"
            )
    chosen = dict.fromkeys(name.lower() for name in names)
    return list(EXPERIMENTS) if "all" in chosen else [known[name] for name in chosen]


def listing(console: Console) -> None:
    """Print all experiments: source, settings, reported numbers, and how long they take."""
    for experiment in EXPERIMENTS:
        console.print(Text(f"{experiment.name}  {experiment.title}", style="bold"))
        console.print(Text(f"    {experiment.source}; {_duration(experiment)}"))
        for command in experiment.commands:
            console.print(Text(as_typed(f"    python -m train.{command}")), soft_wrap=True)
        for reported in experiment.reported:
            where = f"{_words(reported.where)}: " if reported.where else ""
            metric = f"{reported.which} {reported.metric.replace('_', ' ')}"
            number = _number(reported.value, reported.deviation)
            console.print(Text(f"    the report: {where}{metric} {number}"), soft_wrap=True)
        if experiment.note:
            console.print(Text(f"    {experiment.note}"))
        console.print()


def _duration(experiment: Experiment) -> str:
    if not experiment.commands:
        return "gradients side by side, seconds"
    if experiment.minutes is None:
        return "not run in full"
    minutes = experiment.minutes
    return f"{f'{minutes:g} minutes' if minutes >= 1 else 'under a minute'} for each seed, 2 cores"


def reproduce(experiment: Experiment, options: Options) -> int:
    """Repeat one experiment: train what is not trained yet, and show the results.

    Returns:
        The exit status of the first command that failed, or 0.
    """
    console = output()
    caution = " - REDUCED by --quick, numbers of no worth" if options.quick else ""
    console.rule(Text(f"{experiment.name}: {experiment.title}{caution}"))
    console.print(Text(f"{experiment.source}. {experiment.note}".strip()))
    from train.reproduce.gradient_tables import show  # It needs jax, which is slow to import.

    gradients = show(experiment.name, console)
    folder = options.out / ("quick" if options.quick else "full") / experiment.name
    found: list[_Found] = []
    for number, command in enumerate(experiment.commands, 1):
        words = (reduced(command, experiment) if options.quick else command).split()
        module, directory = words.pop(0), folder / str(number)
        words += ["--seeds", str(1 if options.quick else options.seeds), "--out", str(directory)]
        if options.data_dir is not None:
            words += ["--data-dir", str(options.data_dir)]
        print(as_typed(f"\npython -m train.{module} {' '.join(words)}"), flush=True)
        status: int = importlib.import_module(f"train.{module}").main(words)
        if status:
            return status
        read = reader.read(directory)
        assert read.summary is not None  # The command ended well.
        found += reader.configurations(read)
        note = f"{experiment.source}. {read.summary['dataset']['description']}"
    rows = [row for row, _ in found]
    beside = compared(experiment, rows, options.quick)
    if beside:
        console.print(_table(experiment, beside, caution))
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(
        folder / "result.json",
        {
            "experiment": experiment.name,
            "source": experiment.source,
            "reduced": options.quick,
            "gradients": gradients,
            "compared": beside,
            "configurations": rows,
        },
    )
    if found:
        _draw(experiment, found, folder / "figure.png", caution, note)
        print(f"figure        {folder / 'figure.png'}")
    print(f"results       {folder / 'result.json'}\n")
    return 0


def compared(
    experiment: Experiment, rows: Sequence[dict[str, Any]], quick: bool
) -> list[dict[str, Any]]:
    """Return each number of the report with ours beside it.

    Args:
        experiment: what was repeated.
        rows: its configurations, as in summary.json.
        quick: whether it was reduced, and steps are not those of the report.
    """
    found = []
    for reported in experiment.reported:
        row = next(row for row in rows if _matches(row["config"], reported, experiment, quick))
        ours = row[reported.metric][reported.which]
        found.append(
            {
                "where": reported.where,
                "metric": reported.metric,
                "which": reported.which,
                "reported": reported.value,
                "reported_std": reported.deviation,
                "mean": ours["mean"],
                "std": ours["std"],
                "runs": len([value for value in ours["values"] if value is not None]),
            }
        )
    return found


def _matches(
    config: dict[str, Any], reported: Reported, experiment: Experiment, quick: bool
) -> bool:
    """Whether a configuration is that of a number of the report."""
    where = dict(reported.where)
    if quick and "steps" in where:
        where["steps"] = reduced_steps(experiment)[int(str(where["steps"]))]
    return all(config[name] == value for name, value in where.items())


def _table(experiment: Experiment, rows: Sequence[dict[str, Any]], caution: str) -> Table:
    """The numbers of the report beside ours."""
    title = Text(f"{experiment.name}: the report and here{caution}")
    table = Table(title=title, title_justify="left")
    for heading in ("configuration", "metric", "report", "here", "runs"):
        words = heading in ("configuration", "metric")
        table.add_column(heading, justify="left" if words else "right")
    for row in rows:
        report = _number(row["reported"], row["reported_std"])
        here = _number(row["mean"], row["std"] if row["runs"] > 1 else None)
        metric = f"{row['which']} {row['metric'].replace('_', ' ')}"
        table.add_row(_words(row["where"]), metric, report, here, str(row["runs"]))
    return table


def _number(mean: float | None, std: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.4f}" + ("" if std is None else f" ± {std:.4f}")


def _words(where: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', '-')} {value}" for name, value in where.items())


def _draw(
    experiment: Experiment,
    found: Sequence[_Found],
    path: Path,
    caution: str,
    note: str,
) -> None:
    """Draw the figure of an experiment."""
    title = f"{experiment.name}: {experiment.title}{caution}"
    rows = [row for row, _ in found]
    if experiment.figure == "against":
        figures.against(rows, *experiment.flags, path, title, note)
    elif experiment.figure == "heat map":
        panels.heat_map(rows, *experiment.flags, path, title, note)
    elif len(longest := _longest(found)) == 1:
        figures.curves(longest[0][1], path, title, note, experiment.axis)
    else:
        figures.bands(summary.ranked(longest), path, title, note)


def _longest(found: Sequence[_Found]) -> list[_Found]:
    """The configurations without those that are the beginning of another, with fewer steps."""
    last: dict[str, _Found] = {}
    # Those that count in epochs, and are told apart by them, have no steps.
    for row, runs in sorted(found, key=lambda pair: pair[0]["config"]["steps"] or 0):
        others = {name: value for name, value in row["config"].items() if name != "steps"}
        last[repr(sorted(others.items()))] = (row, runs)
    return list(last.values())


if __name__ == "__main__":
    sys.exit(main())
