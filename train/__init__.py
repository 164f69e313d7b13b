"""Training runs: data sets, configuration, the run itself, its records and reports."""

from train.launch import launched

COMMANDS = ("mlp", "convnet", "evaluate", "compare", "data", "reproduce")

launched("train", COMMANDS)
