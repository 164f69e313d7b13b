"""A training from its flags to its results: what the training commands and `train.fit` share.

May import the reports and what is below them; of what needs JAX, at the start of a command nothing.
"""
