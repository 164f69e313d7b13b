"""--quick: the commands of an experiment, made small."""

import re

from train.flags.command_line import overridden
from train.reproduce.experiments import Experiment

# What --quick makes of an experiment: it shows that everything works, and no number of worth.
QUICK_STEPS, QUICK_TRAIN, QUICK_TEST = 60, 2000, 500


def reduced(command: str, experiment: Experiment) -> str:
    """Return a command in the reduced form of --quick.

    Args:
        command: what follows `python -m train.`.
        experiment: what it belongs to.
    """
    every = reduced_steps(experiment)
    steps = [every[number] for number in _steps(command)] or [QUICK_STEPS]
    shorter = [
        f"--steps {' '.join(map(str, steps))} --eval-every {max(1, max(steps) // 3)}",
        f"--train-examples {QUICK_TRAIN} --test-examples {QUICK_TEST}",
    ]
    if re.search(r"--validation [1-9]", command):
        shorter.append(f"--validation {QUICK_TEST}")
    words = re.sub(r"--epochs \d+", "", command).split()
    for other in (" ".join(shorter), experiment.quick):
        words = overridden(words, other.split())
    return " ".join(words)


def reduced_steps(experiment: Experiment) -> dict[int, int]:
    """What --quick makes of each number of steps of an experiment, in proportion."""
    every = {number for command in experiment.commands for number in _steps(command)}
    return {n: max(1, n * QUICK_STEPS // max(*every, QUICK_STEPS)) for n in every}


def _steps(command: str) -> list[int]:
    match = re.search(r"--steps((?: \d+)+)", command)
    return [int(word) for word in match[1].split()] if match else []
