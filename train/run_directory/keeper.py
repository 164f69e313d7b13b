"""Keeps in memory what the runs of a sweep have learned, and how long that took."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from train.flags.sweep import Group

if TYPE_CHECKING:  # It needs JAX, which is slow to import.
    from train.engine.trainer import Trainer


class Keeper:
    """Keeps in memory what runs have learned; `checkpoint_manager.Saver` writes it to files too.

    Attributes:
        times: of each group that is trained: the "steps" of all its runs together, the "seconds"
            that they took, and the "seconds_in_steps", without evaluation and compilation.
        learned: by the index of a run in the sweep, what its network has learned at its end,
            "params" and "statistics", as arrays of NumPy.
    """

    def __init__(self) -> None:
        self.times: list[dict[str, float]] = []
        self.learned: dict[int, Any] = {}

    def time(self) -> dict[str, float]:
        """Return the seconds that all groups took, and the steps of all runs in a second."""
        if not self.times:
            return {"seconds": 0.0, "steps_per_second": 0.0}
        total = {name: sum(times[name] for times in self.times) for name in self.times[0]}
        in_steps = total["seconds_in_steps"]
        per_second = total["steps"] / in_steps if in_steps else 0.0
        return {"seconds": total["seconds"], "steps_per_second": per_second}

    def restore(self, number: int, trainer: "Trainer") -> None:
        """Leave a new trainer as it is: nothing was trained before."""

    def keep(self, trainer: "Trainer", ended: Mapping[int, int]) -> None:
        """Keep what runs have learned that end now.

        Args:
            trainer: trains them.
            ended: by the index of a run in the sweep, its number in the trainer.
        """
        if ended:
            learned = trainer.on_host(trainer.learned)
            self.learned.update({index: row(learned, run) for index, run in ended.items()})

    def offer(self, number: int, trainer: "Trainer", group: Group, now: bool = False) -> None:
        """Keep the group in training, if it is interrupted.

        Args:
            number: of the group.
            trainer: trains it.
            group: the runs.
            now: that it is interrupted.
        """
        if now and trainer.step:
            self._keep_the_rest(trainer, group)
            self._count_time(trainer)

    def finish(self, number: int, trainer: "Trainer", group: Group) -> None:
        """Keep what the runs of a group have learned, each at its own end.

        Args:
            number: of the group.
            trainer: has trained it.
            group: the runs.
        """
        self._keep_the_rest(trainer, group)
        self._count_time(trainer)

    def _keep_the_rest(self, trainer: "Trainer", group: Group) -> None:
        """Keep the runs that have not ended before; of a run that has, what it had learned then."""
        rows = {index: row for row, of in enumerate(group.readers.values()) for index in of}
        self.keep(trainer, {index: rows[index] for index in rows.keys() - self.learned.keys()})

    def _count_time(self, trainer: "Trainer") -> None:
        self.times.append(
            {
                "steps": trainer.step * trainer.runs,
                "seconds": trainer.seconds,
                "seconds_in_steps": trainer.seconds_in_steps,
            }
        )


def row(tree: Any, number: int) -> Any:
    """Return the arrays of one run, out of those of several."""
    import jax

    return jax.tree.map(lambda leaf: leaf[number], tree)


def stacked(ended: Mapping[int, Any]) -> Any:
    """What runs have learned, in the order of their indices, as one tree of arrays [runs, ...]."""
    import jax
    import numpy as np

    return jax.tree.map(lambda *rows: np.stack(rows), *[ended[index] for index in sorted(ended)])
