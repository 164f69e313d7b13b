"""What a person sees of runs: progress, tables and figures.

May import `train.run_directory` and what is below it; the commands above draw and print with it.
"""
