"""Training runs: data sets, configuration, the run itself, its records and reports."""

import sys

from train.processes.signals import answer_at_once

if sys.argv[:1] == ["-m"]:  # While Python looks for the module of `python -m train.mlp`.
    answer_at_once()
