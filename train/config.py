"""What a run is: frozen dataclasses, which are the flags of the commands.

A command parses its flags with `sweep.parse`, which refuses a value out of range as told here.
Neither jax nor anything else that is slow to import is needed for that, so a mistake is answered at
once.
"""

import ctypes
import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import tyro

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "softplus"]


def _given(kind: str, default: str) -> Any:
    """How the help shows a flag whose default depends on others, and is None here."""
    return tyro.conf.arg(metavar=kind, help_behavior_hint=f"(default: {default})")


@dataclass(frozen=True)
class Network:
    """The network."""


@dataclass(frozen=True)
class Mlp(Network):
    """Multilayer perceptron: per hidden layer a linear map, norm, activation and dropout.

    Attributes:
        hidden: Widths of the hidden layers joined by "-", such as 100 or 500-100; the short form
            of 1000-1000-1000 is 3x1000.
        activation: Activation function (leaky_relu with slope 0.01, elu with alpha 1, gelu exact).
        norm: Normalisation before each activation: over the batch, or over each example's layer.
        dropout: Probability to drop an activation while training, in [0, 1).
        initializer: Initial weights of a layer with n inputs and m outputs: he N(0, 2/n); glorot
            U(-a, a) with a^2 = 6/(n + m); pytorch U(-a, a) with a^2 = 1/n, biases too; normal
            N(0, s^2) with s = --initial-std. Biases are 0 otherwise.
        initial_std: Standard deviation of --initializer normal.
    """

    hidden: Annotated[str, tyro.conf.arg(metavar="WIDTHS [WIDTHS ...]")] = "100"
    activation: Activation = "relu"
    norm: Literal["none", "batch", "layer", "rms"] = "none"
    dropout: float = 0.0
    initializer: Literal["he", "glorot", "pytorch", "normal"] = "he"
    initial_std: Annotated[float | None, _given("FLOAT [FLOAT ...]", "0.0001")] = None


@dataclass(frozen=True)
class Data:
    """The images.

    Attributes:
        dataset: Data set: digits (8x8 pixels, comes with scikit-learn), mnist (28x28) or cifar10
            (32x32, colour); the last two as TensorFlow Datasets or "python -m train.data prepare"
            leave them.
        data_dir: Folder of the prepared data sets.
        preprocessing: What the network sees: standardize, pixels minus the mean training image,
            divided by the standard deviation of that difference over all pixels; mean-image,
            pixels as stored minus the mean training image; unit, pixels scaled to [0, 1].
    """

    dataset: Literal["digits", "mnist", "cifar10"] = "digits"
    data_dir: Annotated[
        Path | None, _given("DIR", "$TFDS_DATA_DIR, else ~/tensorflow_datasets")
    ] = None
    preprocessing: Literal["standardize", "mean-image", "unit"] = "standardize"


@dataclass(frozen=True)
class Training:
    """The loss is the mean cross-entropy of a batch, in nats.

    Attributes:
        optimizer: Update rule: sgd; momentum and nesterov, sgd with --momentum; adam; adamw, with
            --weight-decay; rmsprop (decay 0.9).
        learning_rate: Learning rate, positive and constant over the run.
        momentum: Decay of the velocity of --optimizer momentum or nesterov, in [0, 1).
        weight_decay: Decoupled weight decay of --optimizer adamw, of all parameters, not
            negative; a step takes learning rate times this off each.
        l2: Coefficient of the sum of squares of all weights (no 1/2; not the biases and scales),
            added to the loss that is minimised and left out of the loss that is reported.
        label_smoothing: Share of each training label that is spread evenly over the classes, from
            0 to 1; the loss that is reported is that of the plain labels.
        steps: Number of updates.
        epochs: Passes through the training set, instead of --steps; the examples left over at the
            end of each pass, fewer than a batch, are not used in it.
        batch_size: Examples per update.
        eval_every: Steps from one evaluation to the next. Each takes the whole test set, and the
            mean of the training loss and accuracy over the batches since the one before.
        seed: Seed of the initial weights, the order of the batches and dropout, below 2^32.
        gradient: Use the gradients written out by hand in jaxnets (explicit), or forget them and
            let JAX differentiate (autodiff); the results agree to rounding.
    """

    optimizer: Literal["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop"] = "adam"
    learning_rate: float = 1e-3
    momentum: Annotated[float | None, _given("FLOAT [FLOAT ...]", "0.9")] = None
    weight_decay: Annotated[float | None, _given("FLOAT [FLOAT ...]", "0.01")] = None
    l2: float = 0.0
    label_smoothing: float = 0.0
    steps: Annotated[int | None, _given("INT [INT ...]", "1500")] = None
    epochs: Annotated[int | None, _given("INT [INT ...]", "not used")] = None
    batch_size: int = 200
    eval_every: int = 100
    seed: int = 0
    gradient: Literal["explicit", "autodiff"] = "explicit"


@dataclass(frozen=True)
class Lockstep:
    """Many runs: a flag that shows several values trains the product of all such flags.

    Attributes:
        seeds: Number of runs of each configuration, with the seeds from --seed on.
        lockstep: Runs of one shape that train at the same time, in one compiled program; auto takes
            all on an accelerator, and what was measured to be fast on a CPU.
    """

    seeds: int = 1
    lockstep: Annotated[int | Literal["auto"], tyro.conf.arg(metavar="{auto}|INT")] = "auto"


@dataclass(frozen=True)
class Output:
    """The files of a run.

    Attributes:
        out: The run directory, absent or empty: config.json, metrics.jsonl (a line per
            evaluation of a run), summary.json and curves.png.
        tensorboard: Write event files for TensorBoard too, to its folder tensorboard.
    """

    out: Annotated[Path | None, _given("DIR", "runs/DATASET-NETWORK-TIME")] = None
    tensorboard: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


@dataclass(frozen=True)
class Run:
    """A run; each command has its own network."""

    network: Network = Network()
    data: Data = Data()
    training: Training = Training()
    output: Output = Output()


@dataclass(frozen=True)
class MlpRun(Run):
    """A run of `python -m train.mlp`."""

    network: Mlp = Mlp()


class ConfigError(ValueError):
    """One line: the flag, its value, and what is allowed."""


def flags(run: Run) -> dict[str, Any]:
    """Return all flags of a run by name, paths as strings."""
    values: dict[str, Any] = {}
    for part in dataclasses.fields(run):
        values.update(dataclasses.asdict(getattr(run, part.name)))
    return {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}


def hidden_widths(hidden: str) -> tuple[int, ...]:
    """Parse the widths of hidden layers, "500-100" or "3x1000".

    Returns:
        The widths, or () where the text is not understood, or names a width of 0 or above a
        million, or more than a thousand layers.
    """
    widths: list[int] = []
    for part in hidden.split("-"):
        match = re.fullmatch(r"(?:([0-9]{1,4})x)?([0-9]{1,7})", part)
        if match is None:
            return ()
        widths += [int(match[2])] * int(match[1] or 1) or [0]
    allowed = len(widths) <= 1000 and all(1 <= width <= 1_000_000 for width in widths)
    return tuple(widths) if allowed else ()


# --- what is allowed -----------------------------------------------------------------------------


class Allowed(NamedTuple):
    """What one value of a flag must be, as a test and in words."""

    test: Callable[[Any], bool]
    words: str


_AT_LEAST_1 = Allowed(lambda n: 1 <= n < 2**31, "a whole number from 1 on, below 2^31")
_POSITIVE = Allowed(lambda x: 0 < x < math.inf, "positive and finite in float32")
_NOT_NEGATIVE = Allowed(lambda x: 0 <= x < math.inf, "not negative and finite in float32")
_BELOW_1 = Allowed(lambda x: 0 <= x < 1, "at least 0 and below 1 in float32")

# Comparisons with NaN are false, so none of these lets it through.
ALLOWED = {
    "hidden": Allowed(
        lambda text: bool(hidden_widths(text)),
        "1 to 1000 widths, each from 1 to 1000000, joined by -, such as 100, 500-100 or 3x1000",
    ),
    "dropout": _BELOW_1,
    "initial_std": _POSITIVE,
    "learning_rate": _POSITIVE,
    "momentum": _BELOW_1,
    "weight_decay": _NOT_NEGATIVE,
    "l2": _NOT_NEGATIVE,
    "label_smoothing": Allowed(lambda x: 0 <= x <= 1, "from 0 to 1"),
    "steps": _AT_LEAST_1,
    "epochs": _AT_LEAST_1,
    "batch_size": _AT_LEAST_1,
    "eval_every": _AT_LEAST_1,
    "seeds": Allowed(lambda n: 1 <= n <= 10_000, "a whole number from 1 to 10000"),
    "lockstep": Allowed(
        lambda n: n == "auto" or 1 <= n < 2**31, "auto, or a whole number from 1 on, below 2^31"
    ),
    "seed": Allowed(lambda n: 0 <= n < 2**32, "a whole number from 0 on, below 2^32"),
}


class Needs(NamedTuple):
    """A flag that has an effect only with some values of another, and its default there."""

    flag: str
    other: str
    values: tuple[str, ...]
    default: float


NEEDS = (
    Needs("initial_std", "initializer", ("normal",), 1e-4),
    Needs("momentum", "optimizer", ("momentum", "nesterov"), 0.9),
    Needs("weight_decay", "optimizer", ("adamw",), 0.01),
)

DEFAULT_STEPS = 1500


def option(name: str) -> str:
    """Return the flag of a field: `learning_rate` is --learning-rate."""
    return "--" + name.replace("_", "-")


R = TypeVar("R", bound=Run)


def check_value(name: str, value: Any) -> None:
    """Raise a `ConfigError` where a value of a flag is out of range; None stands for a default."""
    allowed = ALLOWED.get(name)
    # In float32, as the run computes: 1e-50 is not positive there, nor 0.999999999 below 1.
    seen = ctypes.c_float(value).value if isinstance(value, float) else value
    if allowed is not None and value is not None and not allowed.test(seen):
        raise ConfigError(f"{option(name)} {value}: must be {allowed.words}")


def check_together(values: Mapping[str, Sequence[Any]]) -> None:
    """Raise a `ConfigError` where flags, each with its values, do not go together."""
    for need in NEEDS:
        given = values.get(need.flag, (None,))
        if given != (None,) and not set(values[need.other]) & set(need.values):
            raise ConfigError(
                f"{option(need.flag)} {_words(given)}: is used with {option(need.other)} "
                f"{' or '.join(need.values)} alone; got {_words(values[need.other])}"
            )
    if values["steps"] != (None,) and values["epochs"] != (None,):
        raise ConfigError(
            f"--epochs {_words(values['epochs'])}: must be left out where --steps is given; "
            f"got --steps {_words(values['steps'])}"
        )


def _words(values: Sequence[Any]) -> str:
    return " ".join(map(str, values))


def completed(run: R) -> R:
    """Return the run with the defaults that depend on others, and None where there is no effect."""
    values = flags(run)
    found: dict[str, Any] = {}
    for need in NEEDS:
        used = values.get(need.other) in need.values
        found[need.flag] = (
            None if not used else need.default if values[need.flag] is None else values[need.flag]
        )
    if values["steps"] is None and values["epochs"] is None:
        found["steps"] = DEFAULT_STEPS
    return replaced(run, found)


def replaced(run: R, found: Mapping[str, Any]) -> R:
    """Return `run` with other values of some flags."""
    parts = {}
    for field in dataclasses.fields(run):
        part = getattr(run, field.name)
        names = [f.name for f in dataclasses.fields(part)]
        parts[field.name] = dataclasses.replace(
            part, **{name: found[name] for name in names if name in found}
        )
    return dataclasses.replace(run, **parts)
