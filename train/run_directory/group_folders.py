"""The folders of a run directory in which groups of runs are saved.

parameters/group-0001                    a group of runs that is trained: the parameters and running
                                         statistics of each run at its own end
states/group-0001-step-0000001500        where its training ended, to train on from
checkpoints/group-0002-step-0000000500   the group in training; the last two of them

Each is a checkpoint whose notes hold what was known of all runs at that moment.
"""

import re
from pathlib import Path


def parameters(folder: Path, number: int) -> Path:
    """Return where the parameters of a group belong."""
    return folder / "parameters" / f"group-{number:04d}"


def trained(folder: Path) -> list[Path]:
    """Return the parameters that are there, by the number of their group."""
    return sorted((folder / "parameters").glob("group-*"), key=numbers)


def state(folder: Path, number: int, step: int) -> Path:
    """Return where the state belongs that a group has after its last step."""
    return folder / "states" / f"group-{number:04d}-step-{step:010d}"


def states(folder: Path, number: int) -> list[Path]:
    """Return the states of a group that are there, by their step."""
    return sorted((folder / "states").glob(f"group-{number:04d}-step-*"), key=numbers)


def checkpoint(folder: Path, number: int, step: int) -> Path:
    """Return where the checkpoint of a group in training belongs."""
    return folder / "checkpoints" / f"group-{number:04d}-step-{step:010d}"


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints that are there, by group and step."""
    return sorted((folder / "checkpoints").glob("group-*-step-*"), key=numbers)


def numbers(path: Path) -> tuple[int, ...]:
    """Return the group, and of a checkpoint or state the step, in the name of a folder."""
    return tuple(map(int, re.findall(r"\d+", path.name)))
