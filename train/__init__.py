"""Training runs: data sets, configuration, the run itself, its records and reports."""
