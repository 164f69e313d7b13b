"""A network of one's own: a function whose keywords become flags, from a file, a module or Python.

May import the engine and what is below it. `run_kind` makes of a function what `train.mlp` has: the
dataclass of a run, and what makes its network.
"""

from train.custom_network.kind import OwnNetwork as OwnNetwork
from train.custom_network.kind import run_kind as run_kind
from train.custom_network.source import named as named
