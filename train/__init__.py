"""Commands that train networks, and the rooms that they are made of.

Each line may import the lines below it:

mlp, convnet, compare, evaluate/, reproduce/    the commands
estimators/                                     networks with the interface of scikit-learn
training_command, training_loop                 what the training commands share
report/                                         progress, tables and figures
run_directory/                                  what a run leaves behind
engine/                                         the compiled training program
data/                                           data sets
processes/                                      how a command ends; several processes
flags/                                          what a command line may say
errors, metrics                                 what every room may name
"""

from train.processes.launch import launched

COMMANDS = ("mlp", "convnet", "evaluate", "compare", "data", "reproduce")

launched("train", COMMANDS)
