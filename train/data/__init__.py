"""TODO."""

from train.data.dataset import Dataset, load

__all__ = ["Dataset", "load"]
