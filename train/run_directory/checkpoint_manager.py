"""Saves a sweep while it trains, and finds where it stood; `group_folders` says where."""

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.errors import StoreError
from train.flags.sweep import TO_THE_END, Group
from train.processes.collectives import gathered, is_first, wait
from train.run_directory import group_folders, manifest
from train.run_directory.checkpoint import CheckpointError, fitted, load, load_notes, save
from train.run_directory.directory import RunDirectory
from train.run_directory.keeper import Keeper, row, stacked
from train.run_directory.summary import End, Result

if TYPE_CHECKING:
    from train.engine.trainer import Trainer

# Of the time, a twentieth at most goes into checkpoints.
SHARE = 0.05


_Found = tuple[Path, dict[str, Any], dict[str, Any]]  # A checkpoint: its folder, arrays and notes.


class OtherRunError(CheckpointError):
    """One line: a whole checkpoint is of a run with another config.json."""


class Saver(Keeper):
    """Saves a sweep while it trains, and finds where it stood.

    What runs of a group have learned is kept until the group is saved.
    """

    def __init__(self, directory: RunDirectory, results: Sequence[Result]):
        """Prepare to save.

        Args:
            directory: where to.
            results: of each run of the sweep; saved with it, and restored.
        """
        super().__init__()
        self._directory, self._results = directory, results
        self._found: _Found | None = None
        self._saved_at = self._took = 0.0

    # --- finding ----------------------------------------------------------------------------------

    def recover(self, groups: int) -> int:
        """Go back to the last whole checkpoint, if there is any; say on stderr which are not.

        What comes after it is moved to set-aside/, by the first of several processes; the others
        then find what it found.

        Args:
            groups: how many groups the sweep has.

        Returns:
            The number of the group to resume at, from 1 on; `groups` + 1 where all are trained.

        Raises:
            StoreError: what is saved there is of another run.
        """
        if not is_first():
            wait()
        number, notes = 1, self._before_all()
        errors: list[CheckpointError] = []
        problems: list[str] = []
        path = group_folders.parameters(self._directory.path, number)
        while number <= groups and path.exists():
            try:
                found = load_notes(path)
                if self._is_before(found):
                    break
                notes = self._checked(path, found, number)
            except CheckpointError as error:
                errors.append(error)
                problems.append(f"{error}; group {number} is not complete without it")
                break
            number += 1
            path = group_folders.parameters(self._directory.path, number)
        self._found, damaged = self._last_checkpoint(number)
        step = 0
        if self._found:
            notes = self._found[2]
            step = notes["trainer"]["step"]
        problems += map(str, damaged)
        other = next((e for e in (*errors, *damaged) if isinstance(e, OtherRunError)), None)
        if other is not None and notes is None:
            raise StoreError(
                f"{other}: put back what was there, or train in another folder with --out"
            ) from other
        if problems or (self._directory.size and notes is None):
            problems.append(f"going on from step {step} of group {number} of {groups}")
        for problem in problems:
            print(f"warning: {problem}", file=sys.stderr)
        if number <= groups:
            self._directory.reopen()
        self._set_aside_after(number, step)
        if problems:
            self._directory.keep_metrics()
        self._go_back(notes)
        if is_first():
            wait()
        return number

    def _before_all(self) -> dict[str, Any] | None:
        """What was known when the run ended that this one trains on; None where it trains none."""
        notes = manifest.notes_before(self._directory.config)
        if notes and not self._directory.reaches(notes["metrics"]):
            raise StoreError(
                f"{self._directory.path / manifest.METRICS} is damaged: it does not hold what the "
                f"run held that is trained on; put it back from a copy"
            )
        return notes

    def _last_checkpoint(self, number: int) -> tuple[_Found | None, list[CheckpointError]]:
        """The last whole checkpoint of a group in training, and what is wrong with later ones."""
        errors: list[CheckpointError] = []
        for path in reversed(group_folders.checkpoints(self._directory.path)):
            if group_folders.numbers(path)[0] != number:
                continue
            try:
                tree, notes = load(path)
                return (path, tree, self._checked(path, notes, number)), errors
            except CheckpointError as error:
                errors.append(error)
        return None, errors

    def _set_aside_after(self, number: int, step: int) -> None:
        """Move what comes after a step of a group to set-aside/."""
        folder = self._directory.path
        for path in (*group_folders.trained(folder), *group_folders.checkpoints(folder)):
            saved = group_folders.numbers(path)
            last = (number,) if len(saved) == 1 else (number, step + 1)
            if saved >= last and not self._replaced(path):
                self._directory.set_aside(path)

    def _checked(self, path: Path, notes: dict[str, Any], number: int) -> dict[str, Any]:
        """The notes, where they are of this run and of this group."""
        if notes.get("run") not in manifest.identities(self._directory.config):
            raise OtherRunError(f"{path}: is not of this run, or has another name")
        if notes["group"] != number:
            raise CheckpointError(f"{path}: is not of this run, or has another name")
        if not self._directory.reaches(notes["metrics"]):
            raise CheckpointError(f"{path}: goes with other lines than those in metrics.jsonl")
        return notes

    def _is_before(self, notes: Mapping[str, Any]) -> bool:
        """Whether these are of the run with fewer steps that this one trains on."""
        return notes.get("run") in manifest.identities_before(self._directory.config)

    def _replaced(self, path: Path) -> bool:
        """Whether these are parameters that are replaced when their group is trained on."""
        try:
            return self._is_before(load_notes(path))
        except CheckpointError:
            return False

    def _go_back(self, notes: Mapping[str, Any] | None) -> None:
        """Restore what was known of the runs."""
        for line in self._directory.go_back(notes["metrics"]["bytes"] if notes else 0):
            self._results[line["run"]].records.append(line)
        if notes:
            self.times = notes["times"]
            for result, known in zip(self._results, notes["results"], strict=True):
                result.end = End(*known)

    def restore(self, number: int, trainer: "Trainer") -> None:
        """Put a new trainer of a group where the group stood.

        Args:
            number: of the group.
            trainer: trains it.

        Raises:
            CheckpointError: what the group is to be trained on from is damaged.
            StructureError: it is of another network.
        """
        found = self._found or self._before(number)
        if found is None:
            return
        path, tree, notes = found
        import jax

        # Other devices may have been filled up with other repetitions of the last run.
        saved = jax.tree.map(lambda leaf: leaf[: trainer.runs], tree["state"])
        like = {"state": trainer.like(trainer.state, trainer.runs)}
        state = fitted({"state": saved}, like, path)["state"]
        if "best" in tree:
            like = {"best": trainer.like(trainer.learned, trainer.runs)}
            tree["best"] = fitted({"best": tree["best"]}, like, path)["best"]
        trainer.restore(state, tree, notes["trainer"])
        if notes["ended"]:
            like = {"ended": trainer.like(trainer.learned, len(notes["ended"]))}
            ended = fitted({"ended": tree["ended"]}, like, path)["ended"]
            for position, index in enumerate(notes["ended"]):
                self.learned[index] = row(ended, position)
        self._found = None

    def _before(self, number: int) -> _Found | None:
        """Where a group of the run with fewer steps ended, if this one trains that on."""
        if not manifest.identities_before(self._directory.config):
            return None
        for path in group_folders.states(self._directory.path, number):
            tree, notes = load(path)
            if self._is_before(notes):
                return path, tree, notes
        raise CheckpointError(f"{self._directory.path / 'states'}: holds no end of group {number}")

    def check_states(self, groups: int) -> None:
        """Raise a `StoreError` unless the end of each group is there, to train on from."""
        own = manifest.identities(self._directory.config)
        for number in range(1, groups + 1):
            if not any(
                load_notes(path).get("run") in own
                for path in group_folders.states(self._directory.path, number)
            ):
                raise StoreError(
                    f"{self._directory.path}: holds no state of its last step, as of an earlier "
                    f"version or a schedule that has an end; train it again with another --out"
                )

    # --- saving -----------------------------------------------------------------------------------

    def offer(self, number: int, trainer: "Trainer", group: Group, now: bool = False) -> None:
        """Save the group in training, if it is time for that.

        Args:
            number: of the group.
            trainer: trains it.
            group: the runs.
            now: that it is time in any case.
        """
        due = now or (time.perf_counter() - self._saved_at) * SHARE > self._took
        # A checkpoint of step 0 saves nothing: initialising is as fast as loading.
        if not gathered(due)[0] or trainer.step == 0:
            return

        import orbax.checkpoint  # noqa: F401  # Once; not a part of what saving takes.

        started = time.perf_counter()
        tree, notes = trainer.snapshot()
        if self.learned:
            tree["ended"] = stacked(self.learned)
        notes = {**self._notes(number), "trainer": notes, "ended": sorted(self.learned)}
        save(group_folders.checkpoint(self._directory.path, number, trainer.step), tree, notes)
        if is_first():
            for path in group_folders.checkpoints(self._directory.path)[:-2]:
                shutil.rmtree(path)
        if now:
            self._keep_the_rest(trainer, group)  # For a session that goes on.
        self._saved_at = time.perf_counter()
        self._took = self._saved_at - started

    def finish(self, number: int, trainer: "Trainer", group: Group) -> None:
        """Save what the runs of a group have learned, each at its own end.

        Args:
            number: of the group.
            trainer: has trained it.
            group: the runs.
        """
        super().finish(number, trainer, group)
        older = group_folders.states(self._directory.path, number)
        if group.shape.training.schedule not in TO_THE_END:
            tree, notes = trainer.snapshot()
            path = group_folders.state(self._directory.path, number, trainer.step)
            save(path, tree, {**self._notes(number), "trainer": notes, "ended": []})
            older = [other for other in older if other != path]
        notes = {**self._notes(number), "runs": sorted(self.learned)}
        save(group_folders.parameters(self._directory.path, number), stacked(self.learned), notes)
        self.learned = {}
        if is_first():
            for path in older:
                shutil.rmtree(path)

    def close(self) -> None:
        """Remove the checkpoints of a sweep that is trained."""
        if is_first():
            shutil.rmtree(self._directory.path / "checkpoints", ignore_errors=True)

    def _notes(self, number: int) -> dict[str, Any]:
        return {
            "run": manifest.identity(self._directory.config),
            "group": number,
            "metrics": self._directory.mark(),
            "results": [result.end for result in self._results],
            "times": self.times,
        }
