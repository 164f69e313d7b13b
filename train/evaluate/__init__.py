"""python -m train.evaluate: what a trained network gets right and wrong, and new images.

May import the reports and what is below them; no other command.
"""
