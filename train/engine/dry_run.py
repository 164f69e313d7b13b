"""What a sweep would take, from a few measured steps: --dry-run. Nothing is trained or written.

Of each group as many runs as train at the same time take a few steps, as they would in earnest. The
others of the group follow them one after the other, and their time is counted, not measured. The
largest group is measured first. Once measuring has taken a tenth of the time that it predicts, the
remaining groups are estimated from the measured one whose runs are closest in size.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax

from train.engine.memory import run_bytes
from train.engine.segments import LONGEST_SEGMENT
from train.engine.sharding import choose_lockstep
from train.engine.trainer import Trainer
from train.flags.config import replaced
from train.flags.sweep import Group

# A segment that takes less than this is dominated by its beginning and end, and is made longer.
_LONG_ENOUGH = 0.3  # Seconds.
_LENGTHS = (5, 50, LONGEST_SEGMENT)  # Steps.

# Measuring takes no longer than this share of what it predicts, or these seconds. A first group has
# to be compiled, whatever it takes.
_SHARE, _SECONDS = 0.1, 10.0


class Expected(NamedTuple):
    """What a group would take.

    Attributes:
        runs: how many networks are trained.
        steps: of the longest run.
        lockstep: how many runs a device computes at a time.
        programs: how many programs are compiled.
        compilation: the seconds that it takes, with nothing in the cache.
        turn: the seconds from the first step to the last evaluation of as many runs as are computed
            at a time.
        run_bytes: the memory of a run: parameters, running statistics, the optimizer's moments, the
            best parameters where it keeps those, and which examples its next steps take.
        other_bytes: the memory of a device that does not grow with the number of runs: the data,
            and what the steps of the runs that are computed at a time need.
        measured: whether steps of the group were measured.
    """

    runs: int
    steps: int
    lockstep: int
    programs: int
    compilation: float
    turn: float
    run_bytes: int
    other_bytes: int
    measured: bool = True

    def seconds(self, devices: int) -> float:
        """Return the seconds of the group on so many devices such as the measured ones."""
        per_device = math.ceil(self.runs / devices)
        return self.compilation + math.ceil(per_device / self.lockstep) * self.turn

    def bytes(self, devices: int) -> int:
        """Return the memory on all devices: each run is there from the first step to the last."""
        return devices * self.other_bytes + self.runs * self.run_bytes


def all_expected(
    groups: Sequence[Group],
    trainer_of: Callable[[Group], Trainer],
    size_of: Callable[[Group], int],
    lockstep: int | None,
    devices: int,
    follow: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> list[Expected]:
    """Return what each group would take; measure as many as there is time for.

    Args:
        groups: the runs, by their shape.
        trainer_of: makes what trains a group.
        size_of: the bytes that a run of a group keeps from step to step.
        lockstep: how many runs train at a time on a device; None to choose.
        devices: over how many devices the runs spread.
        follow: shows how far a loop over these numbers is.

    Raises:
        MemoryError: the runs that are computed at a time do not fit into memory.
    """
    sizes = [size_of(group) for group in groups]
    costs = [
        size * group.shape.training.batch_size * len(group.readers) * group.ends[-1]
        for size, group in zip(sizes, groups, strict=True)
    ]
    found: dict[int, Expected] = {}
    started, before = time.perf_counter(), 0.0
    for index in follow(sorted(range(len(groups)), key=lambda i: -costs[i])):
        spent = time.perf_counter() - started
        one_more, before = spent - before, spent
        every = [_estimated(i, groups, sizes, found) for i in range(len(groups))] if found else []
        total = sum(row.seconds(devices) for row in every)
        if found and spent + one_more > max(_SECONDS, _SHARE * total):
            return every
        found[index] = expected(groups[index], trainer_of, lockstep, devices)
    return [found[index] for index in range(len(groups))]


def _estimated(
    index: int, groups: Sequence[Group], sizes: Sequence[int], found: Mapping[int, Expected]
) -> Expected:
    """What was measured of a group, or else what a similar one tells of it."""
    if index in found:
        return found[index]
    near = min(found, key=lambda i: abs(math.log(sizes[i] / sizes[index])))
    of, group = found[near], groups[index]
    last, examples = group.ends[-1], [g.shape.training.batch_size for g in (group, groups[near])]
    return of._replace(
        runs=len(group.readers),
        steps=last,
        turn=of.turn * last / of.steps * max(1.0, examples[0] / examples[1]),
        run_bytes=max(0, of.run_bytes + sizes[index] - sizes[near]),
        measured=False,
    )


def expected(
    group: Group, trainer_of: Callable[[Group], Trainer], lockstep: int | None, devices: int
) -> Expected:
    """Measure a few steps of a group.

    Args:
        group: the runs of one shape.
        trainer_of: makes what trains a group.
        lockstep: how many runs train at a time on a device; None to choose.
        devices: over how many devices the runs spread.

    Returns:
        What the group would take.

    Raises:
        MemoryError: the runs that are computed at a time do not fit into memory.
    """
    runs = len(group.readers)
    devices = min(devices, runs)
    per_device = math.ceil(runs / devices)
    at_a_time = min(lockstep or choose_lockstep(jax.devices()[0].platform, per_device), per_device)
    sample = dict(list(group.readers.items())[: at_a_time * devices])
    every, last = group.shape.training.eval_every, group.ends[-1]
    started = time.perf_counter()
    for number, wished in enumerate(_LENGTHS, 1):
        length = min(wished, every, last)
        shape = replaced(group.shape, {"eval_every": length, "patience": None})
        trainer = trainer_of(Group(shape, sample))
        measured = _measured(trainer, length)
        if measured.segment >= _LONG_ENOUGH or length == min(every, last, LONGEST_SEGMENT):
            break
        # A longer segment is compiled anew, and measured three times.
        spent, step = time.perf_counter() - started, measured.segment / length
        again = spent / number + 3 * step * min(_LENGTHS[number], every, last)
        if spent + again > max(_SECONDS, _SHARE * step * last):
            break
        trainer.forget()
    evaluations = math.ceil(last / every)
    turn = (
        last / length * measured.segment
        + evaluations * measured.evaluation
        + len(group.ends) * measured.end
    )
    lengths = len({min(length, last) for length in (every, last % every or every)})
    found = Expected(
        runs,
        last,
        at_a_time,
        programs=3 + lengths,
        compilation=measured.others + lengths * measured.compilation,
        turn=turn,
        run_bytes=run_bytes(trainer.like(trainer.state, 1), group.shape.training, last),
        other_bytes=trainer.working_bytes,
    )
    trainer.forget()
    return found


class _Measured(NamedTuple):
    """What was measured, in seconds.

    Attributes:
        segment: training so many steps.
        evaluation: the evaluation after them.
        end: what the evaluation at the end of a run takes longer.
        compilation: compiling a segment.
        others: compiling everything else.
    """

    segment: float
    evaluation: float
    end: float
    compilation: float
    others: float


def _measured(trainer: Trainer, length: int) -> _Measured:
    """Train three segments of so many steps."""
    whole, steps = [], []
    before, in_steps = time.perf_counter(), 0.0
    for evaluated in trainer.train([3 * length], lambda step, steps_per_second: None):
        if not evaluated:
            continue
        now = time.perf_counter()
        whole.append(now - before)
        steps.append(trainer.seconds_in_steps - in_steps)
        before, in_steps = time.perf_counter(), trainer.seconds_in_steps
    around = [all_of_it - part for all_of_it, part in zip(whole, steps, strict=True)]
    middle = around[min(2, len(around) - 1)]
    return _Measured(
        segment=min(steps[1:]),
        evaluation=middle,
        end=max(0.0, around[-1] - middle),
        compilation=max(0.0, around[1] - middle),
        others=max(0.0, around[0] - middle),
    )
