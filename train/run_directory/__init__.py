"""The files that a run leaves behind: written, checked, read back, and resumed from.

May import the engine and what is below it, but not at the start of a command, which JAX would slow;
nothing of how results are shown.
"""
