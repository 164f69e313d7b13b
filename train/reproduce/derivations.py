"""The derivations of the reports, as gradients that a person can compare number by number.

Each is a scalar loss of named arrays, built from the ops of jaxnets. `compare` differentiates it
three times: by the hand-written rules, by JAX's autodiff with all of them forgotten, and by central
differences.

Long: each derivation stands whole beside its function.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import autodiff, ops


class Derivation(NamedTuple):
    """A loss to differentiate.

    Attributes:
        title: what is derived.
        loss: a function of the arrays, in the order of `arguments`, that returns a scalar.
        arguments: float64 arrays by name.
        reported: what the report gives as gradients, by the same names.
        reported_loss: what it gives as the loss itself.
    """

    title: str
    loss: Callable[..., jax.Array]
    arguments: dict[str, np.ndarray]
    reported: Mapping[str, np.ndarray] = MappingProxyType({})
    reported_loss: float | None = None


class Gradient(NamedTuple):
    """The gradient of a loss with respect to one array, computed in three ways, float64."""

    name: str
    by_hand: np.ndarray
    autodiff: np.ndarray
    differences: np.ndarray
    reported: np.ndarray | None


def compare(derivation: Derivation) -> tuple[float, list[Gradient]]:
    """Return the loss, and its gradient with respect to each array."""
    with jax.enable_x64(True):
        arrays = [jnp.asarray(array, jnp.float64) for array in derivation.arguments.values()]
        every = tuple(range(len(arrays)))
        loss = float(derivation.loss(*arrays))
        by_hand = jax.jit(jax.grad(derivation.loss, every))(*arrays)
        automatic = jax.jit(jax.grad(autodiff(derivation.loss), every))(*arrays)
        value = jax.jit(derivation.loss)
        gradients = [
            Gradient(
                name,
                np.asarray(by_hand[i]),
                np.asarray(automatic[i]),
                _central_differences(value, arrays, i),
                derivation.reported.get(name),
            )
            for i, name in enumerate(derivation.arguments)
        ]
    return loss, gradients


def _central_differences(
    value: Callable[..., jax.Array], arrays: Sequence[jax.Array], position: int, step: float = 1e-5
) -> np.ndarray:
    """The gradient with respect to one array, from two values of the loss for each entry."""
    array = np.array(arrays[position])
    result = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        sides = []
        for sign in (1, -1):
            moved = array.copy()
            moved[index] += sign * step
            sides.append(float(value(*arrays[:position], moved, *arrays[position + 1 :])))
        result[index] = (sides[0] - sides[1]) / (2 * step)
    return result


# --- what the reports derive ---------------------------------------------------------------------


def _normal(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def batch_norm() -> list[Derivation]:
    """A3 and B4: the gradients of batch norm with respect to x, gamma and beta."""
    x, gamma, beta, dy = _normal(0, (6, 3), (3,), (3,), (6, 3))

    def loss(x, gamma, beta):
        return jnp.sum(dy * ops.batch_norm(x, gamma, beta)[0])

    return [Derivation("batch norm", loss, {"x": x, "gamma": gamma, "beta": beta})]


def layer_norm() -> list[Derivation]:
    """D7: the gradients of layer norm with respect to x, gamma and beta."""
    x, gamma, beta, dy = _normal(1, (4, 5), (5,), (5,), (4, 5))

    def loss(x, gamma, beta):
        return jnp.sum(dy * ops.layer_norm(x, gamma, beta))

    return [Derivation("layer norm", loss, {"x": x, "gamma": gamma, "beta": beta})]


def batch_of_linear() -> list[Derivation]:
    """B7: W and b take the sum over the examples of a batch, x a gradient for each."""
    x, weight, bias, dy = _normal(2, (4, 3), (3, 2), (2,), (4, 2))

    def loss(x, weight, bias):
        return jnp.sum(dy * ops.linear(x, weight, bias))

    per_example = [np.outer(x[s], dy[s]) for s in range(4)]
    sums = {"weight": np.sum(per_example, 0), "bias": dy.sum(0), "x": dy @ weight.T}
    arguments = {"x": x, "weight": weight, "bias": bias}
    return [Derivation("linear, a batch of 4", loss, arguments, sums)]


def modules() -> list[Derivation]:
    """D1: linear, activation, softmax and cross-entropy, each in matrix form."""
    x, weight, bias, dy, z = _normal(3, (4, 3), (3, 5), (5,), (4, 5), (4, 5))
    targets = np.eye(5)[[0, 3, 1, 1]]
    elu = np.where(z > 0, 1, np.exp(np.minimum(z, 0)))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)

    def linear(x, weight, bias):
        return jnp.sum(dy * ops.linear(x, weight, bias))

    def activation(x):
        return jnp.sum(dy * ops.elu(x))

    def softmax(x):
        return jnp.sum(dy * ops.softmax(x))

    def cross_entropy(x):
        return jnp.mean(ops.cross_entropy(x, targets.astype(x.dtype)))

    matrix_form = {"x": dy @ weight.T, "weight": x.T @ dy, "bias": dy.sum(0)}
    return [
        Derivation("linear", linear, {"x": x, "weight": weight, "bias": bias}, matrix_form),
        Derivation("ELU", activation, {"x": z}, {"x": dy * elu}),
        Derivation("softmax", softmax, {"x": z}, {"x": p * (dy - (dy * p).sum(1, keepdims=True))}),
        Derivation("cross-entropy", cross_entropy, {"x": p}, {"x": -targets / p / 4}),
    ]


def convolution() -> list[Derivation]:
    """D2: a 2x2 kernel on a 3x3 input; the report's convolution flips the kernel."""
    x, kernel, dy = _normal(4, (3, 3), (2, 2), (2, 2))

    def loss(x, kernel):
        y = ops.conv2d(x[None, :, :, None], kernel[::-1, ::-1, None, None], padding="VALID")
        return jnp.sum(dy * y[0, :, :, 0])

    # The report's two results, dK_11 and dX_12, and by the same sums the others.
    flipped = kernel[::-1, ::-1]
    dx, dkernel = np.zeros((3, 3)), np.zeros((2, 2))
    for i, j in np.ndindex(2, 2):
        dx[i : i + 2, j : j + 2] += dy[i, j] * flipped
        dkernel += dy[i, j] * x[i : i + 2, j : j + 2][::-1, ::-1]
    reported = {"x": dx, "kernel": dkernel}
    return [Derivation("convolution", loss, {"x": x, "kernel": kernel}, reported)]


def toy_net() -> list[Derivation]:
    """C: the 4-10-3 net with 5 inputs of the course's handout, with the L2 term, no 1/2."""
    weights = np.random.RandomState(0)
    first, second = 1e-1 * weights.randn(4, 10), 1e-1 * weights.randn(10, 3)
    x = 10 * np.random.RandomState(1).randn(5, 4)
    labels = jnp.asarray([0, 1, 2, 2, 1])

    def loss(w1, b1, w2, b2):
        z = ops.linear(ops.relu(ops.linear(jnp.asarray(x), w1, b1)), w2, b2)
        return jnp.mean(ops.softmax_cross_entropy(z, labels)) + 0.05 * ops.l2_penalty([w1, w2])

    arguments = {"W1": first, "b1": np.zeros(10), "W2": second, "b2": np.zeros(3)}
    return [Derivation("two-layer net with L2", loss, arguments, reported_loss=1.30378789133)]


def two_three_two() -> list[Derivation]:
    """E1: the network of the report, and one without its symmetry, which hides errors in dh."""

    def loss_of(x):
        def loss(w, b, v, c):
            h = ops.sigmoid(ops.linear(jnp.asarray(x)[None], w, b))
            return ops.softmax_cross_entropy(ops.linear(h, v, c), jnp.asarray([0]))[0]

        return loss

    symmetric = {
        "w": np.array([[1.0, 1, 1], [-1, -1, -1]]),
        "b": np.zeros(3),
        "v": np.array([[1.0, 1], [-1, -1], [-1, -1]]),
        "c": np.zeros(2),
    }
    reported = {
        "w": np.zeros((2, 3)),
        "b": np.zeros(3),
        "v": np.array([[-0.4404, 0.4404]] * 3),
        "c": np.array([-0.5, 0.5]),
    }
    w, b, v, c, x = _normal(5, (2, 3), (3,), (3, 2), (2,), (2,))
    return [
        Derivation(
            "2-3-2, the report's", loss_of([1.0, -1.0]), symmetric, reported, float(np.log(2))
        ),
        Derivation("2-3-2, asymmetric", loss_of(x), {"w": w, "b": b, "v": v, "c": c}),
    ]


DERIVATIONS: dict[str, Callable[[], list[Derivation]]] = {
    "A3": batch_norm,
    "B4": batch_norm,
    "B7": batch_of_linear,
    "C0": toy_net,
    "D1": modules,
    "D2": convolution,
    "D7": layer_norm,
    "E1": two_three_two,
}


# --- E3: shapes of single examples and of batches ------------------------------------------------


class Shape(NamedTuple):
    """A quantity of the 784-300-10 net for one example and for a batch, and as the report says."""

    name: str
    one: tuple[int, ...]
    batch: tuple[int, ...]
    reported_one: tuple[int, ...]
    reported_batch: tuple[int, ...]


def shapes(batch: int = 32) -> list[Shape]:
    """E3: the shapes of all intermediates and of all per-example gradients (tables 2 and 3)."""

    def forward(x, w, b, v, c):
        k = ops.linear(x, w, b)
        h = ops.sigmoid(k)
        o = ops.linear(h, v, c)
        return {"k": k, "h": h, "o": o, "y": ops.softmax(o)}

    def from_o(o, label):
        return ops.softmax_cross_entropy(o[None], label[None])[0]

    def gradients(x, w, b, v, c, label):
        """The derivatives of one example's loss, by the report's names."""
        k = ops.linear(x, w, b)
        h = ops.sigmoid(k)
        by = {
            "o": jax.grad(from_o)(ops.linear(h, v, c), label),
            "h": jax.grad(lambda h: from_o(ops.linear(h, v, c), label))(h),
            "k": jax.grad(lambda k: from_o(ops.linear(ops.sigmoid(k), v, c), label))(k),
        }
        own = jax.grad(lambda p: from_o(forward(x, *p)["o"], label))((w, b, v, c))
        return {
            "dy/do": by["o"],
            "dy/dc": own[3],
            "do/dv": own[2],
            "do/dh": by["h"],
            "dh/dk": by["k"],
            "dk/dw": own[0],
            "dk/db": own[1],
        }

    params = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((784, 300), (300,), (300, 10), (10,))]
    x = jax.ShapeDtypeStruct((784,), jnp.float32)
    label = jax.ShapeDtypeStruct((), jnp.int32)
    xs = jax.ShapeDtypeStruct((batch, 784), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
    nones = (None,) * 4
    one = {
        **jax.eval_shape(forward, x, *params),
        **jax.eval_shape(gradients, x, *params, label),
    }
    many = {
        **jax.eval_shape(jax.vmap(forward, (0, *nones)), xs, *params),
        **jax.eval_shape(jax.vmap(gradients, (0, *nones, 0)), xs, *params, labels),
    }
    return [
        Shape(name, one[name].shape, many[name].shape, shape, (batch, *shape))
        for name, shape in _REPORTED_SHAPES.items()
    ]


# Tables 2 and 3 of report E.
_REPORTED_SHAPES: dict[str, tuple[int, ...]] = {
    "k": (300,),
    "h": (300,),
    "o": (10,),
    "y": (10,),
    "dy/do": (10,),
    "dy/dc": (10,),
    "do/dv": (300, 10),
    "do/dh": (300,),
    "dh/dk": (300,),
    "dk/dw": (784, 300),
    "dk/db": (300,),
}
