"""What the network of an estimator gives, in as few programs as possible."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from train.engine.compiled import kept, quick
from train.engine.devices import set_up
from train.engine.input_pipeline import Data
from train.engine.memory import Fitting
from train.estimators.architecture import Shape, any_numbers, precision, scores, tree_of
from train.estimators.grouping import program_shape

# Examples that are computed with at a time: a few, or many.
_CHUNKS = (256, 1000)


def outputs(
    shape: Shape, coefs: Sequence, intercepts: Sequence, others: tuple[Any, Any], x: np.ndarray
) -> np.ndarray:
    """Return what the last linear layer gives.

    Args:
        shape: of the program that trained the network, not filled up.
        coefs: the weights, [inputs, outputs] each.
        intercepts: the biases, [outputs] each.
        others: the parameters and the statistics of norms.
        x: the examples, [N, features].

    Returns:
        float64 [N, outputs].
    """
    set_up()
    shape = program_shape(shape)
    chunk = next((n for n in _CHUNKS if len(x) <= n), _CHUNKS[-1])
    found = []
    with precision(shape.dtype):
        like, program = shape.state, shape.program
        nothing: Any = None
        state = like._replace(
            step=nothing,
            key=nothing,
            params=tree_of(like.params, coefs, intercepts, others[0]),
            statistics=tree_of(like.statistics, [], [], others[1]),
            moments=None,
        )
        numbers = any_numbers()
        zero, one = np.zeros((), shape.dtype), np.ones((), shape.dtype)

        def make(lockstep):
            return jax.jit(
                lambda state, x: program.predict(state, numbers, Data(x, None, zero, one)),
                compiler_options=quick(True),
            )

        predict = kept((shape, "outputs"), lambda: Fitting(make, 1, False))
        for start in range(0, len(x), chunk):
            part = x[start : start + chunk]
            filled = np.zeros((chunk, shape.features), shape.dtype)
            filled[: len(part), : x.shape[1]] = part
            found.append(np.asarray(predict(state, filled))[: len(part)])
    return scores(shape.head, np.concatenate(found)).astype(np.float64)
