"""Where a report derives something wrongly: its formula, the right one, and the numbers of both."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Erratum(NamedTuple):
    """A mistake in a report.

    Attributes:
        where: the place in the report.
        says: its formula.
        right: the right one.
        numbers: returns gradients, float64: by the report's formula, by the right one, and by
            autodiff. The first may have another shape.
    """

    where: str
    says: str
    right: str
    numbers: Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]]


_Numbers = tuple[np.ndarray, np.ndarray, np.ndarray]


def _automatic(loss: Callable[[jax.Array], jax.Array], at: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(jax.grad(loss)(jnp.asarray(at)))


def _softmax(z: np.ndarray) -> np.ndarray:
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


def _relu_backward() -> _Numbers:
    rng = np.random.default_rng(0)
    hidden, weight, target = rng.standard_normal(6), rng.standard_normal((6, 4)), np.eye(4)[1]

    def loss(hidden):
        p = jax.nn.softmax(jnp.maximum(hidden, 0) @ weight)
        return -jnp.sum(target * jnp.log(p))

    after = weight @ (_softmax(np.maximum(hidden, 0) @ weight) - target)
    return np.maximum(0, after), after * (hidden > 0), _automatic(loss, hidden)


def _batch_norm() -> _Numbers:
    rng = np.random.default_rng(1)
    x, dx_hat = rng.standard_normal((6, 3)), rng.standard_normal((6, 3))
    batch, eps = len(x), 1e-5

    def loss(x):
        mean, variance = x.mean(0), x.var(0)
        return jnp.sum(dx_hat * (x - mean) / jnp.sqrt(variance + eps))

    std = np.sqrt(x.var(0) + eps)
    x_hat = (x - x.mean(0)) / std
    says = np.zeros_like(x)
    for r, j, s, i in np.ndindex(*x.shape, *x.shape):
        terms = batch * dx_hat[r, j] - dx_hat[s, i] * x_hat[s, i] * x_hat[r, j] - dx_hat[s, i]
        says[r, j] += terms / (batch * std[i])
    right = (batch * dx_hat - dx_hat.sum(0) - x_hat * (dx_hat * x_hat).sum(0)) / (batch * std)
    return says, right, _automatic(loss, x)


def _softmax_index() -> _Numbers:
    rng = np.random.default_rng(2)
    z, dy = rng.standard_normal(5), rng.standard_normal(5)
    p = _softmax(z)
    one = np.eye(5)
    says = dy @ (p[:, None] * (one - p[:, None]))
    right = dy @ (p[:, None] * (one - p[None, :]))
    return says, right, _automatic(lambda z: jnp.sum(dy * jax.nn.softmax(z)), z)


def _first_weight() -> _Numbers:
    rng = np.random.default_rng(3)
    x, w1, w2 = (rng.standard_normal(shape) for shape in ((5, 4), (4, 10), (10, 3)))
    targets = np.eye(3)[[0, 1, 2, 2, 1]]

    def loss(w1):
        logits = jnp.maximum(x @ w1, 0) @ w2
        return -jnp.sum(jnp.asarray(targets) * jax.nn.log_softmax(logits)) / 5

    hidden = np.maximum(x @ w1, 0)
    dz = (_softmax(hidden @ w2) - targets) @ w2.T * (x @ w1 > 0) / 5
    return hidden.T @ dz, x.T @ dz, _automatic(loss, w1)


def _softmax_rows() -> _Numbers:
    rng = np.random.default_rng(4)
    x, dy = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    p = _softmax(x)
    own = p * (dy - (dy * p).sum(1, keepdims=True))
    # The report's second case holds for all i, m: other rows enter with -p_mn p_ij as well.
    others = (dy * p).sum() - (dy * p).sum(1, keepdims=True)
    return own - p * others, own, _automatic(lambda x: jnp.sum(dy * jax.nn.softmax(x)), x)


def _cross_entropy_sign() -> _Numbers:
    z, target = np.random.default_rng(5).standard_normal(4), np.eye(4)[2]
    p = _softmax(z)
    loss = lambda z: -jnp.sum(target * jnp.log(jax.nn.softmax(z)))  # noqa: E731
    return np.where(target == 1, 1 - p, -p), p - target, _automatic(loss, z)


ERRATA: dict[str, tuple[Erratum, ...]] = {
    "A1": (
        Erratum(
            "section 1.2, vector form of the hidden layers",
            "the gradient through a ReLU is max(0, dL/dy)",
            "dL/dx = dL/dy where x > 0, of either sign, and 0 elsewhere",
            _relu_backward,
        ),
    ),
    "A3": (
        Erratum(
            "section 3, the gradient of x",
            "all terms are summed over the batch s and over the features i",
            "features do not mix, and the first term is not summed: dL/dx_j^r = (B dx^_j^r - sum_s "
            "dx^_j^s - x^_j^r sum_s dx^_j^s x^_j^s) / (B sqrt(var_j + eps))",
            _batch_norm,
        ),
    ),
    "B7": (
        Erratum(
            "question 1.1a (ii), last line",
            "d softmax_i / dx_j = x_i (1[i = j] - x_i)",
            "d softmax_i / dx_j = x_i (1[i = j] - x_j)",
            _softmax_index,
        ),
    ),
    "C0": (
        Erratum(
            "question 2c, the gradient of W1",
            "its last factor is the hidden layer a2, and the ReLU looks at z3",
            "the last factor is the input a1, and the ReLU looks at z2",
            _first_weight,
        ),
    ),
    "D1": (
        Erratum(
            "question 1.1c i, the second case",
            "d softmax_mn / dX_ij = -softmax_mn softmax_ij for another row m, too",
            "it is 0 for another row m: a row's softmax depends on that row alone",
            _softmax_rows,
        ),
    ),
    "E1": (
        Erratum(
            "question 2, equation 3",
            "dl/do_i = 1 - y_i for the target class, -y_i for the others",
            "dl/do_i = y_i - 1 for the target class, y_i for the others (its listing 4 has it so)",
            _cross_entropy_sign,
        ),
    ),
}
