"""The compiled training program, and what feeds it: this room needs JAX.

May import data, processes and flags; it knows nothing of run directories, tables and figures.
"""
