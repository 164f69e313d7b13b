"""The network of an estimator: its program, and its weights as scikit-learn lists them."""

from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnets import layers, nets
from train.engine.compiled import kept
from train.engine.optimizers import OPTIMIZERS, Schedule
from train.engine.program import Program, State, make_program
from train.flags.config import TRACED

# The numbers of a run: those of `engine.hyperparameters.Hyper`, and three that no flag has.
Numbers: Any = cast(Any, namedtuple)(
    "Numbers", [*TRACED, "beta_1", "beta_2", "epsilon"], defaults=[None] * (len(TRACED) + 2)
)

# What jaxnets calls the activations that scikit-learn has another name for.
_RENAMED = {"logistic": "sigmoid"}

ACTIVATIONS = ("identity", "logistic", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu",
               "sigmoid", "softplus")  # fmt: skip
_SKLEARN_HAS = ("sgd", "momentum", "nesterov", "adam")  # As its "sgd" and "adam".
SOLVERS = ("lbfgs", "sgd", "adam", *(name for name in OPTIMIZERS if name not in _SKLEARN_HAS))

# With these a unit of weights 0 stays 0 and changes no other, so that a net may be filled up: rules
# that look at one number at a time, and activations that are 0 at 0.
_ELEMENTWISE = {
    "lbfgs", "sgd", "adam", "adamw", "nadam", "nadamw", "adamax", "amsgrad", "radam", "adabelief",
    "yogi", "rmsprop", "adadelta", "adagrad", "lion", "sign_sgd",
}  # fmt: skip
_ZERO_AT_ZERO = {"identity", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu"}


class Shape(NamedTuple):
    """What a compiled program depends on.

    Attributes:
        features: of an example.
        hidden: the widths of the hidden layers.
        outputs: of the network.
        head: what the outputs are: "softmax" or "logistic" of probabilities, "identity" of numbers.
        activation: one of `ACTIVATIONS`.
        norm: what stands before it, None or one of `nets.NORMS`.
        drops: whether there is dropout.
        solver: one of `SOLVERS`.
        nesterov: whether the momentum of "sgd" is Nesterov's.
        schedule: of the learning rate.
        dtype: "float32" or "float64".
    """

    features: int
    hidden: tuple[int, ...]
    outputs: int
    head: str
    activation: str
    norm: str | None
    drops: bool
    solver: str
    nesterov: bool
    schedule: Schedule
    dtype: str

    @property
    def widens(self) -> bool:
        """Whether hidden layers may be filled up with units that change nothing."""
        elementwise = self.solver in _ELEMENTWISE and self.activation in _ZERO_AT_ZERO
        return elementwise and not self.drops and self.norm in (None, "batch")

    @property
    def takes_more_features(self) -> bool:
        """Whether examples may be filled up with zeros."""
        return self.solver in _ELEMENTWISE

    @property
    def program(self) -> Program:
        """The functions of a run."""
        return kept(self, self._made_program)

    @property
    def state(self) -> State:
        """The shapes and dtypes of what a run keeps from step to step."""
        return kept((self, "state"), self._made_state)

    def _made_program(self) -> Program:
        return make_program(
            self._network,
            (self.features,),
            _RULES[self.solver](self.nesterov) if self.solver in _RULES else self.solver,
            loss="squared_error" if self.head == "identity" else "softmax_cross_entropy",
            schedule=self.schedule,
            precision=self.dtype,
        )

    def _network(self, numbers: Any) -> layers.Layer:
        net = nets.mlp(
            [*self.hidden, self.outputs],
            activation=_RENAMED.get(self.activation, self.activation),
            norm=self.norm,
            dropout=numbers.dropout if self.drops else 0.0,
        )
        return layers.serial(net, _HEADS[self.head]) if self.head in _HEADS else net

    def _made_state(self) -> State:
        shapes = jax.eval_shape(self.program.initialise, any_numbers(), jax.random.key(0))
        wide = np.dtype(self.dtype)

        def as_computed(leaf):
            floating = jnp.issubdtype(leaf.dtype, jnp.floating)
            return jax.ShapeDtypeStruct(leaf.shape, wide if floating else leaf.dtype)

        params = jax.tree.map(as_computed, shapes.params)
        statistics = jax.tree.map(as_computed, shapes.statistics)
        numbers = any_numbers()
        if self.solver in _RULES:
            rule = _RULES[self.solver](self.nesterov)(numbers, jnp.int32(0))
        else:
            rule = OPTIMIZERS[self.solver](numbers)
        moments = jax.eval_shape(rule.init, params)
        key: Any = jax.ShapeDtypeStruct((2,), np.uint32)
        step: Any = jax.ShapeDtypeStruct((), np.int32)
        return State(step, key, params, statistics, moments)


def precision(dtype: str) -> Any:
    """Return a context in which JAX computes in a dtype."""
    return jax.enable_x64(dtype == "float64")


def any_numbers() -> Any:
    """Return numbers for a function that needs some, whichever."""
    return Numbers(*[0.5] * len(Numbers._fields))._replace(clip_norm=None, label_smoothing=None)


# --- scikit-learn's rules ------------------------------------------------------------------------


def _sgd(nesterov: bool) -> Callable[[Any, jax.Array], optax.GradientTransformation]:
    # The velocity has the learning rates of its time in it; that of optax.sgd has none.
    return lambda h, step: optax.chain(
        optax.scale(-h.learning_rate), optax.trace(h.momentum, nesterov)
    )


def _adam(nesterov: bool) -> Callable[[Any, jax.Array], optax.GradientTransformation]:
    def rule(h, step):
        # scikit-learn adds epsilon to the root of v before v's bias is taken off, optax after it.
        beta_2 = jnp.asarray(h.beta_2)
        epsilon = h.epsilon / jnp.sqrt(1 - beta_2 ** (step + 1).astype(beta_2.dtype))
        # Not as one vector (`optax.flatten`): XLA then fuses the L2 term into the concatenation, an
        # element at a time, and a step on MNIST takes twice as long.
        return optax.adam(h.learning_rate, h.beta_1, h.beta_2, epsilon)

    return rule


def _lbfgs(nesterov: bool) -> Callable[[Any, jax.Array], optax.GradientTransformation]:
    return lambda h, step: optax.identity()  # It takes no steps here, see `lbfgs`.


_RULES = {"sgd": _sgd, "adam": _adam, "lbfgs": _lbfgs}


# --- what follows the last linear layer ----------------------------------------------------------


def _head(function: Callable[[jax.Array], jax.Array], last: int) -> layers.Layer:
    def init(key, input_shape):
        return {}, {}, (*input_shape, last)

    def apply(params, state, x, *, key=None, training=False):
        return function(x), state

    return layers.Layer("head", init, apply)


# A logistic output z is the second of two logits, 0 and z. Each number that is to be predicted has
# an axis of its own, so that the loss of an example is the sum over them.
_HEADS = {
    "logistic": _head(lambda z: jnp.stack([jnp.zeros_like(z), z], -1), 2),
    "identity": _head(lambda z: z[..., None], 1),
}


def scores(head: str, outputs: np.ndarray) -> np.ndarray:
    """Return what the last linear layer gives, [N, outputs], from what `Program.predict` does."""
    return outputs[..., -1] if head in _HEADS else outputs


# --- weights -------------------------------------------------------------------------------------


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield each array with what it is: "coef", "intercept", or its name in a norm."""
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    linear = {path[:-1] for path, _ in found if path[-1].key == "weight"}
    for path, leaf in found:
        name = path[-1].key
        if path[:-1] in linear:
            name = {"weight": "coef", "bias": "intercept"}[name]
        yield name, leaf


def tree_of(like: Any, coefs: Sequence, intercepts: Sequence, others: Sequence | None) -> Any:
    """Return parameters, or statistics, as the program has them.

    Args:
        like: their shapes, which may be larger: what is missing is 0, or 1 of scales and variances.
        coefs: the weights of the linear layers, [inputs, outputs] each.
        intercepts: their biases, [outputs] each.
        others: all other arrays, in the order of the tree; None for scales and variances of 1, all
            else 0.
    """
    parts = {"coef": iter(coefs), "intercept": iter(intercepts)}
    rest = None if others is None else iter(others)
    leaves = []
    for name, leaf in _leaves(like):
        filling = 1.0 if name in ("scale", "variance") else 0.0
        array = np.full(leaf.shape, filling, leaf.dtype)
        given = next(parts[name]) if name in parts else None if rest is None else next(rest)
        if given is not None:
            array[tuple(map(slice, np.shape(given)))] = given
        leaves.append(array)
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def lists_of(tree: Any, sizes: Sequence[int]) -> tuple[list, list, list]:
    """Return the coefs, intercepts and other arrays of parameters or statistics, cut to size.

    Args:
        tree: as the program has it.
        sizes: features, hidden widths and outputs.
    """
    coefs: list[np.ndarray] = []
    intercepts: list[np.ndarray] = []
    others: list[np.ndarray] = []
    for name, leaf in _leaves(tree):
        if name == "coef":
            n = len(coefs)
            coefs.append(np.array(leaf[: sizes[n], : sizes[n + 1]]))
        elif name == "intercept":
            intercepts.append(np.array(leaf[: sizes[len(intercepts) + 1]]))
        else:
            # What belongs to a norm follows the linear layer before it; statistics come in pairs
            # and have no linear layers.
            n = len(coefs) if coefs else len(others) // 2 + 1
            others.append(np.array(leaf[: sizes[n]]))
    return coefs, intercepts, others
