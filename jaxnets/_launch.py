"""Signals and mistakes while `python -m jaxnets` imports JAX, which takes a second: one line."""

import sys

if sys.argv[:1] == ["-m"]:  # While Python looks for the module.
    from train.processes.launch import launched

    launched("jaxnets", ())
