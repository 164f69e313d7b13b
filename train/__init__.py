"""Commands that train networks, and the rooms that they are made of, each above those it imports:

mlp, convnet, compare     the commands, with those of evaluate/ and reproduce/
training_command, _loop   what the training commands share
report/                   progress, tables, figures
run_directory/            what a run leaves behind
engine/                   the compiled training program
data/                     data sets
processes/                how a command ends; signals; processes that train together
flags/                    what a command line may say
errors, metrics           what every room may name
"""

import sys

from train.processes.signals import answer_at_once

if sys.argv[:1] == ["-m"]:  # While Python looks for the module of `python -m train.mlp`.
    answer_at_once()
