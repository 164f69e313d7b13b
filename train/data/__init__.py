"""Data sets: where they come from, how they are read and prepared, and how they are divided.

May import `train.flags` and `train.processes`; never JAX.
"""

from train.data.dataset import Dataset as Dataset
from train.data.loading import load as load
from train.data.own import from_arrays as from_arrays
