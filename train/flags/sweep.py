"""Several values of a flag: which runs that makes, and which of them train together.

The flags of a sweep are those of a run, each with a tuple in the place of a value; the runs are
the product. Runs of one shape, which differ in numbers alone, are a group: one compiled program
trains it, `lockstep` runs at a time. Runs that differ only in the number of steps are one run that
is read at several.
"""

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple

from train.errors import ConfigError
from train.flags.config import FLAGS, Machines, R, Run, declared, flags, replaced
from train.flags.constraints import check_together, check_value, completed, option
from train.flags.declaration import Flag

# Schedules whose course depends on how many steps there will be.
TO_THE_END = ("cosine", "one-cycle")

MOST_RUNS = 100_000


class Sweep(NamedTuple, Generic[R]):
    """All runs of a command.

    Attributes:
        runs: the runs, complete; the seeds of a configuration follow one another.
        lockstep: how many runs of a group train at a time on a device; None to choose.
        shard: what is spread over the devices, "runs" or "batch".
        given: the flags as they were given, by name, as JSON holds them: a value, or a list of
            several.
        directory: the run directory to resume; None for a new run.
        dry_run: whether to say what the runs would take, and train nothing.
        machines: the processes that train together.
        longer: whether the runs of the directory have fewer steps, and are to be trained on.
    """

    runs: tuple[R, ...]
    lockstep: int | None
    shard: str
    given: dict[str, Any]
    directory: Path | None
    dry_run: bool
    machines: Machines
    longer: bool


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
    known = declared(type(base))
    for name, several in values.items():
        if not several:
            raise ConfigError(f"{option(name)}: needs a value")
        for value in several:
            check_value(name, value, known)
    check_together(values, known)
    first, folds = values["seed"][0], values["folds"][0]
    check_value("seed", first + seeds - 1)
    total = seeds * (folds or 1) * (count or math.prod(map(len, values.values())))
    if total > MOST_RUNS:
        raise ConfigError(f"the flags make {total} runs: must be at most {MOST_RUNS}")
    product = itertools.product(*values.values()) if count is None else drawn(values, count, known)
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


def drawn(
    values: Mapping[str, Sequence[Any]], count: int, known: Mapping[str, Flag] = FLAGS
) -> Iterator[tuple[Any, ...]]:
    """Yield `count` random choices of a value for every flag; two real numbers are a range.

    Args:
        values: the values of every flag; the draws are a function of them and of the seed.
        count: how many to draw.
        known: what is declared of the flags.

    Raises:
        ConfigError: a log-uniform range begins at 0, or, where 1 - value is drawn, ends at 1.
    """
    for name, several in values.items():
        law = known[name].law
        if law == "log" and len(several) == 2 and min(several) <= 0:
            raise ConfigError(
                f"{option(name)} {min(several):g} {max(several):g}: a range of --search is "
                f"log-uniform here, so both ends must be above 0"
            )
        if law == "log from 1" and len(several) == 2 and max(several) >= 1:
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
        yield tuple(_draw(generator, known[name].law, several) for name, several in values.items())


def _draw(generator: random.Random, law: str | None, several: Sequence[Any]) -> Any:
    if len(several) != 2 or law is None:
        return several[0] if len(several) == 1 else generator.choice(several)
    low, high = sorted(several)
    if law == "uniform":
        value = generator.uniform(low, high)
    elif law == "log":
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
        shape = shape_of(trained)
        group = found.setdefault(shape, Group(run, {}))
        group.readers.setdefault(trained, {})[index] = last
    return list(found.values())


def shape_of(run: R) -> R:
    """Return a run without its seed, and with a stand-in for each number that is traced."""
    return replaced(run, {**_traced(run), "seed": None})


def _traced(run: Run) -> dict[str, float | None]:
    """Return the numbers of a run that its shape does not depend on, each as a stand-in."""
    values = flags(run)
    return {
        # Where None is not the same as a number without effect, the two are not of one shape.
        name: None if flag.off is not None or values[name] is None else 0.0
        for name, flag in declared(type(run)).items()
        if flag.traced
    }


def varying(runs: Sequence[Run]) -> list[str]:
    """Return the names of the flags that are not the same in all runs."""
    values = [flags(run) for run in runs]
    return [name for name in values[0] if len({row[name] for row in values}) > 1]
