"""What the numbers say about a gradient that is wrong: on which argument a missing term depends."""

import jax.numpy as jnp
import numpy as np

from jaxnets._checking.case import Case, gradients
from jaxnets._checking.programs import LARGE, each

# Beside the expected gradient's largest entry: what counts as nothing, and what as a difference.
_NOTHING, _MUCH = 1e-4, 1e-2


def missing_term(case: Case, k: int) -> str:
    """Return how the error in the k-th gradient depends on an argument, in the words of a message.

    Each argument in turn is moved, and then set to 0. A gradient that an argument does not move,
    where it moves autodiff's, lacks a term; an error that is gone where an argument is 0 is that of
    a term that has this argument for a factor. Nothing is returned where neither is so.
    """
    floats = [np.asarray(value) for value in case.floats]
    if case.eager or sum(value.size for value in floats) >= LARGE:
        return ""
    points = [floats]
    for j, value in enumerate(floats):
        size = np.abs(value.astype(np.float64)).max(initial=0.0) or 1.0
        for other in (0.75 * value.astype(np.float64) + 0.1 * size, np.zeros(value.shape)):
            points.append([*floats[:j], other.astype(value.dtype), *floats[j + 1 :]])
    stacks = [np.stack(values) for values in zip(*points, strict=True)]

    def both(floats):
        functions = case.explicit, case.twin
        return [jnp.asarray(gradients(f, floats, case.cotangents)[k]) for f in functions]

    try:
        found = case.run(lambda stacks: each(both, stacks), stacks)
    except Exception:  # The reference is another one.
        return ""
    got, want = (np.asarray(part).astype(np.float64) for part in found)
    size = np.abs(want[0]).max(initial=0.0)
    lacking, vanishing = [], []
    with np.errstate(invalid="ignore", over="ignore"):
        for j, name in enumerate(case.float_names):
            moved, zero = 2 * j + 1, 2 * j + 2
            steps = [np.abs(part[moved] - part[0]).max(initial=0.0) for part in (got, want)]
            if steps[0] <= _NOTHING * size and steps[1] > _MUCH * size:
                lacking.append(name)
            if j != k and np.abs(got[zero] - want[zero]).max(initial=0.0) <= _NOTHING * size:
                vanishing.append(name)
    if lacking:
        return f"; a term is missing that depends on {' and '.join(lacking)}"
    return f"; no error where {' or '.join(vanishing)} is 0" if vanishing else ""
