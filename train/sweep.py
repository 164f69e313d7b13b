"""Several values of a flag: which runs that makes, and which of them train together.

The flags of a sweep are those of a run, each with a tuple in the place of a value; the runs are
the product. Runs of one shape, which differ in numbers alone, are a group: one compiled program
trains it, `lockstep` runs at a time. Runs that differ only in the number of steps are one run that
is read at several.
"""

import dataclasses
import inspect
import itertools
import math
import random
import re
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from train import resume
from train.allowed import (
    ConfigError,
    check_machines,
    check_together,
    check_value,
    completed,
    option,
)
from train.command_line import overridden, read
from train.config import Lockstep, Machines, R, Run, flags, replaced

# Flags that are the same for all runs of a sweep, or that --seeds and --folds count through.
ONE_VALUE = {
    "dataset", "data_dir", "train_examples", "test_examples", "validation", "folds", "fold",
    "eval_every", "test_curve", "gradient_norms", "seed", "gradient", "out", "resume",
    "tensorboard",
}  # fmt: skip

# Flags that change nothing in the runs, and may be others when they are gone on with.
NOT_OF_THE_RUNS = (
    "out", "resume", "dry_run", "distributed", "coordinator", "processes", "process_id",
)  # fmt: skip

# What tells the runs of a group apart: data to the compiled program, not a part of it.
NUMBERS = (
    "learning_rate", "decay", "momentum", "weight_decay", "clip_norm", "l2", "label_smoothing",
    "dropout", "negative_slope", "alpha",
)  # fmt: skip

# Schedules whose course depends on how many steps there will be.
TO_THE_END = ("cosine", "one-cycle")

MOST_RUNS = 100_000

P = TypeVar("P", Lockstep, Machines)


class Sweep(NamedTuple, Generic[R]):
    """All runs of a command.

    Attributes:
        runs: the runs, complete; the seeds of a configuration follow one another.
        lockstep: how many runs of a group train at a time on a device; None to choose.
        shard: what is spread over the devices, "runs" or "batch".
        given: the flags as they were given, by name, as JSON holds them: a value, or a list of
            several.
        directory: the run directory to go on with; None for a new run.
        dry_run: whether to say what the runs would take, and train nothing.
        machines: the processes that train together.
    """

    runs: tuple[R, ...]
    lockstep: int | None
    shard: str
    given: dict[str, Any]
    directory: Path | None
    dry_run: bool = False
    machines: Machines = Machines()


class Group(NamedTuple):
    """Runs of one shape.

    Attributes:
        shape: any of them.
        readers: what is trained, a run without its number of steps; and for each the runs that
            read it, by their index in the sweep, with the step after which they end.
    """

    shape: Run
    readers: dict[Run, dict[int, int]]

    @property
    def ends(self) -> list[int]:
        """The steps after which a run ends."""
        return sorted({step for steps in self.readers.values() for step in steps.values()})


def parse(kind: type[R], arguments: Sequence[str] | None, prog: str, about: str | None) -> Sweep[R]:
    """Parse a command line; that of a run to go on with is completed by its own flags.

    Args:
        kind: the dataclass of a run of the command.
        arguments: the words after the command; None for those of this process.
        prog: the command, as the help shows it.
        about: what it does, and examples, see `command_line.read`.

    Returns:
        The runs.

    Raises:
        ConfigError: a flag is unknown, a value is out of range, two flags do not go together, or
            they are not those of the run to go on with.
        StoreError: what is named as a run directory is none.
        SystemExit: after printing the help.
    """
    given = sys.argv[1:] if arguments is None else arguments
    values = _values(kind, given, prog, about)
    directory = resume.run_directory(values["resume"], values["out"])
    if directory is not None:
        flag = "--out" if values["resume"] is None else "--resume"
        before = resume.stored(directory, prog.removeprefix("python -m "), flag).given
        if values["resume"] is not None:
            values = _values(kind, overridden(resume.words(before), given), prog, about)
        resume.check_same(directory, before, _as_json(values))
    as_given = _as_json(values)
    sweep, machines = _taken(values, Lockstep), _taken(values, Machines)
    for name, value in vars(sweep).items():
        check_value(name, value)
    check_machines(machines, sweep.dry_run)
    for name in ONE_VALUE & set(values):
        values[name] = (values[name],)
    count = None if sweep.search is None else int(sweep.search.removeprefix("random:"))
    runs = expand(kind(), values, sweep.seeds, count)
    lockstep = None if sweep.lockstep == "auto" else sweep.lockstep
    return Sweep(runs, lockstep, sweep.shard, as_given, directory, sweep.dry_run, machines)


def _taken(values: dict[str, Any], part: type[P]) -> P:
    """Take the flags of a dataclass out of those of the command."""
    return part(**{field.name: values.pop(field.name) for field in dataclasses.fields(part)})


def _values(
    kind: type[Run], arguments: Sequence[str], prog: str, about: str | None
) -> dict[str, Any]:
    """The values of all flags by name, tuples but for `ONE_VALUE`, `Lockstep` and `Machines`."""
    parsed = read(_with_several_values(kind), arguments, prog, about)
    return {
        name: value
        for part in dataclasses.fields(parsed)
        for name, value in vars(getattr(parsed, part.name)).items()
    }


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """The flags as config.json holds them; paths are absolute, for another working folder."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return value[0] if len(value) == 1 else list(value)
        return str(value.absolute()) if isinstance(value, Path) else value

    return {name: plain(v) for name, v in values.items() if name not in NOT_OF_THE_RUNS}


def _with_several_values(kind: type[Run]) -> Any:
    """Return the dataclass of a run in which a flag is a tuple of values, but for `ONE_VALUE`."""

    def remade(part: type) -> type:
        fields = []
        for field in dataclasses.fields(part):
            hint = typing.get_type_hints(part, include_extras=True)[field.name]
            default: Any = field.default
            if part not in (Lockstep, Machines) and field.name not in ONE_VALUE:
                default = (default,)
                if typing.get_origin(hint) is Annotated:
                    one, *notes = typing.get_args(hint)
                    hint = Annotated[tuple[one, ...], *notes]  # type: ignore[valid-type]
                else:
                    hint = tuple[hint, ...]  # type: ignore[valid-type]
            fields.append((field.name, hint, dataclasses.field(default=default)))
        # Tyro leaves a line of its own to what begins with a digit or a dash.
        names = {"__doc__": re.sub(r"\n {8,}", " ", inspect.getdoc(part) or "")}
        return dataclasses.make_dataclass(part.__name__, fields, namespace=names, frozen=True)

    parts = {f.name: typing.get_type_hints(kind)[f.name] for f in dataclasses.fields(kind)}
    parts |= {"sweep": Lockstep, "machines": Machines}
    parts = {name: remade(part) for name, part in parts.items()}
    return dataclasses.make_dataclass(
        kind.__name__,
        [(name, part, dataclasses.field(default=part())) for name, part in parts.items()],
        frozen=True,
    )


def expand(
    base: R, values: Mapping[str, Sequence[Any]], seeds: int, count: int | None = None
) -> tuple[R, ...]:
    """Return the runs of a sweep: the configurations, times the folds, times the seeds.

    A flag that has an effect with some values of another alone varies there alone.

    Args:
        base: a run; its own values do not count.
        values: the values of every flag of the run.
        seeds: how many seeds, from `values["seed"]` on.
        count: how many configurations to draw at random; None for the product of all values.

    Raises:
        ConfigError: a value is out of range, two flags do not go together, or there are too many.
    """
    for name, several in values.items():
        if not several:
            raise ConfigError(f"{option(name)}: needs a value")
        for value in several:
            check_value(name, value)
    check_together(values)
    first, folds = values["seed"][0], values["folds"][0]
    check_value("seed", first + seeds - 1)
    total = seeds * (folds or 1) * (count or math.prod(map(len, values.values())))
    if total > MOST_RUNS:
        raise ConfigError(f"the flags make {total} runs: must be at most {MOST_RUNS}")
    product = itertools.product(*values.values()) if count is None else drawn(values, count)
    found = (
        completed(replaced(base, dict(zip(values, chosen, strict=True)))) for chosen in product
    )
    configurations = dict.fromkeys(found)  # Each once, whatever was without effect in it.
    return tuple(
        replaced(run, {"seed": seed, "fold": fold})
        for run in configurations
        for fold in ([None] if folds is None else range(folds))
        for seed in range(first, first + seeds)
    )


# Flags whose order of magnitude is what matters, and those in which 1 - value is so.
_LOG_UNIFORM = {"learning_rate", "weight_decay", "l2", "clip_norm", "initial_std"}
_LOG_UNIFORM_FROM_1 = {"momentum", "decay"}
_UNIFORM = {"dropout", "label_smoothing", "negative_slope", "alpha"}


def drawn(values: Mapping[str, Sequence[Any]], count: int) -> Iterator[tuple[Any, ...]]:
    """Yield `count` random choices of a value for every flag; two real numbers are a range.

    Args:
        values: the values of every flag; the draws are a function of them and of the seed.
        count: how many to draw.

    Raises:
        ConfigError: a log-uniform range begins at 0, or, where 1 - value is drawn, ends at 1.
    """
    for name, several in values.items():
        if name in _LOG_UNIFORM and len(several) == 2 and min(several) <= 0:
            raise ConfigError(
                f"{option(name)} {min(several):g} {max(several):g}: a range of --search is "
                f"log-uniform here, so both ends must be above 0"
            )
        if name in _LOG_UNIFORM_FROM_1 and len(several) == 2 and max(several) >= 1:
            raise ConfigError(
                f"{option(name)} {min(several):g} {max(several):g}: a range of --search is "
                f"log-uniform in 1 - value here, so both ends must be below 1"
            )
    if all(len(several) == 1 for several in values.values()):
        raise ConfigError(
            f"--search random:{count}: needs a flag with several values to draw from, such as "
            f"--learning-rate 1e-4 1e-1"
        )
    generator = random.Random(values["seed"][0])
    for _ in range(count):
        yield tuple(_draw(generator, name, several) for name, several in values.items())


def _draw(generator: random.Random, name: str, several: Sequence[Any]) -> Any:
    if len(several) != 2 or name not in _LOG_UNIFORM | _LOG_UNIFORM_FROM_1 | _UNIFORM:
        return several[0] if len(several) == 1 else generator.choice(several)
    low, high = sorted(several)
    if name in _UNIFORM:
        value = generator.uniform(low, high)
    elif name in _LOG_UNIFORM:
        value = math.exp(generator.uniform(math.log(low), math.log(high)))
    else:
        value = 1 - math.exp(generator.uniform(math.log(1 - high), math.log(1 - low)))
    return min(max(float(f"{value:.4g}"), low), high)  # Four digits read better than seventeen.


def groups(runs: Sequence[Run], steps: Sequence[int]) -> list[Group]:
    """Return the runs by their shape, in the order in which the shapes come.

    Args:
        runs: the runs.
        steps: how many steps each takes.
    """
    found: dict[Run, Group] = {}
    for index, (run, last) in enumerate(zip(runs, steps, strict=True)):
        # With a schedule that leads to the end, other ends are other runs.
        length = last if run.training.schedule in TO_THE_END else None
        trained = replaced(run, {"steps": length, "epochs": None})
        shape = replaced(trained, {**dict.fromkeys(NUMBERS), "seed": None})
        group = found.setdefault(shape, Group(run, {}))
        group.readers.setdefault(trained, {})[index] = last
    return list(found.values())


def varying(runs: Sequence[Run]) -> list[str]:
    """Return the names of the flags that are not the same in all runs."""
    values = [flags(run) for run in runs]
    return [name for name in values[0] if len({row[name] for row in values}) > 1]


def choose_lockstep(platform: str, runs: int) -> int:
    """Return how many runs of a group to train at a time on a device.

    Args:
        platform: of the device: "cpu", "gpu" or "tpu".
        runs: how many runs the device has.
    """
    if platform != "cpu":
        return runs
    # Each core of a CPU has runs of its own (see `backend`), and one at a time stays in its cache.
    # Microseconds per step and run of twenty runs on two cores, by how many at a time on each:
    #                                  1      5     10
    #   64-100-10, batch 1, Adam      6.6    6.0    6.1
    #   64-100-10, batch 200, Adam   59.5   60.4   62.0
    #   784-300-10, batch 1, SGD     26.6   34.6   32.7
    return 1
