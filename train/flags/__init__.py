"""The flags: what there are, what they allow, and how a command line is read.

Below all but `train.errors` and `train.metrics`: nothing else of `train` may be imported here, nor
JAX, so that a mistake is answered at once.
"""
