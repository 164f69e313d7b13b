"""Commands that train networks, and the rooms that they are made of.

Each line may import the lines below it:

runs/                                           fit and load, for Python
mlp, convnet, custom, compare                   the commands, with
evaluate/, reproduce/
estimators/                                     networks with the interface of scikit-learn
training/                                       what the training commands and fit share
report/                                         progress, tables and figures
run_directory/                                  what a run leaves behind
custom_network/                                 a function of one's own as a network with flags
engine/                                         the compiled training program
data/                                           data sets
processes/                                      how a command ends; several processes
flags/                                          what a command line may say
cache                                           the folder of compiled programs and decoded data
errors, metrics                                 what every room may name
"""

import importlib
from typing import TYPE_CHECKING, Any

from train.processes.launch import COMMANDS, launched

if TYPE_CHECKING:
    from train.runs import Runs as Runs
    from train.runs import fit as fit
    from train.runs import load as load

# From Python. They need JAX, which a command imports only when its flags are in order.
_FROM_PYTHON = ("fit", "load", "Runs")

launched("train", COMMANDS)


def __getattr__(name: str) -> Any:
    if name in _FROM_PYTHON:
        return getattr(importlib.import_module("train.runs"), name)
    raise AttributeError(f"module 'train' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_FROM_PYTHON]
