"""python -m train.reproduce: the experiments of five course reports, repeated.

May import the reports and what is below them; it runs the training commands by their names.
"""
