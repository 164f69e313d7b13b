"""A command as a process: how it ends, signals, and the processes that train together.

May import `train.flags`; JAX is imported where it is used, because a command starts without it.
"""
