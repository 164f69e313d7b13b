"""Training from Python: `fit` trains, `load` reads a run directory, and both return `Runs`.

May import the training commands and what is below them; it needs JAX.
"""

from train.runs.fitting import fit as fit
from train.runs.reading import load as load
from train.runs.results import Runs as Runs
from train.runs.trained import Network as Network
