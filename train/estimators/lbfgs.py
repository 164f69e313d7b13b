"""The solver "lbfgs": SciPy's, on the loss and gradient of all examples at once."""

import warnings

import jax
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree
from sklearn.exceptions import ConvergenceWarning

from train.engine.compiled import kept, quick
from train.engine.devices import set_up
from train.engine.input_pipeline import Data
from train.engine.memory import Fitting
from train.estimators.architecture import Numbers, precision
from train.estimators.grouping import program_shape, rounded
from train.estimators.run import Run


def train(run: Run, x: np.ndarray) -> None:
    """Train a run to its end.

    Args:
        run: what to train; its attributes are set.
        x: the examples, [N, features].
    """
    set_up()
    shape, options = program_shape(run.shape), run.options
    with precision(shape.dtype):
        size = rounded(len(x))
        filled = np.zeros((size, shape.features), shape.dtype)
        filled[: len(x), : x.shape[1]] = x
        targets = run.targets
        kind = shape.dtype if targets.dtype.kind == "f" else targets.dtype
        y, weight = np.zeros((size, *targets.shape[1:]), kind), np.zeros(size, shape.dtype)
        y[run.rows] = targets
        weight[run.rows] = 1.0 if run.weight is None else run.weight
        zero, one = np.zeros((), shape.dtype), np.ones((), shape.dtype)
        data = Data(*jax.device_put((filled, y, zero, one, weight)))
        state = run.start(shape.state)
        packed, unpack = ravel_pytree(state.params)
        program = shape.program

        def make(lockstep):
            return jax.jit(program.value_and_gradient, compiler_options=quick(True))

        function = kept((shape, "lbfgs"), lambda: Fitting(make, 1, False))
        numbers = Numbers(**{name: np.asarray(n, shape.dtype) for name, n in run.numbers.items()})

        def value_and_gradient(vector):
            params = jax.tree.map(np.asarray, unpack(vector))
            terms, gradient = function(state._replace(params=params), numbers, data)
            return float(terms.sum()), np.asarray(ravel_pytree(gradient)[0], np.float64)

        found = scipy.optimize.minimize(
            value_and_gradient,
            np.asarray(packed, np.float64),
            method="L-BFGS-B",
            jac=True,
            options={
                "maxfun": options["max_fun"],
                "maxiter": options["max_iter"],
                "gtol": options["tol"],
            },
        )
        run.state = state._replace(params=jax.tree.map(np.asarray, unpack(found.x)))
    run.n_iter, run.loss_curve = min(found.nit, options["max_iter"]), [float(found.fun)]
    if found.status != 0:
        warnings.warn(
            f"lbfgs failed to converge after {run.n_iter} iteration(s) (status={found.status}): "
            f"{found.message}; take a larger max_iter, or scale the data",
            ConvergenceWarning,
            stacklevel=4,
        )
    if options["verbose"]:
        print(f"{found.message}; {found.nit} iterations, loss = {found.fun:.8f}")
