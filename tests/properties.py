"""How properties are tried: a few examples, the same in every run, and as long as each takes."""

import hypothesis

# The examples follow from the test's own code, so that one that fails fails again. Nothing of them
# is written to the working folder.
few = hypothesis.settings(max_examples=25, deadline=None, derandomize=True, database=None)
