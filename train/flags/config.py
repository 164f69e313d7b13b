"""What a run is: frozen dataclasses, which are the flags of the commands.

All that is to be known of a flag stands on its field; `FLAGS` and the tables below it are read from
there.
Neither jax nor anything else that is slow to import is needed for that, so a mistake is answered at
once.

Long: all flags, with their help.
"""

import dataclasses
import functools
import math
import re
import shlex
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

import tyro

from train.flags.declaration import (
    AT_LEAST_0,
    AT_LEAST_1,
    AUGMENTATIONS,
    BELOW_1,
    FINITE,
    NOT_NEGATIVE,
    POSITIVE,
    Allowed,
    Flag,
    augmentations,
    hidden_widths,
)

Activation = Literal[
    "relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "softplus", "identity"
]
Optimizer = Literal[
    "sgd", "momentum", "nesterov", "adam", "adamw", "nadam", "nadamw", "adamax", "amsgrad", "radam",
    "adabelief", "yogi", "novograd", "rmsprop", "adadelta", "adagrad", "adafactor", "lion", "muon",
    "lamb", "lars", "sign_sgd",
]  # fmt: skip
Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]


def _given(kind: str, default: str) -> Any:
    """How the help shows a flag whose default depends on others, and is None here."""
    return tyro.conf.arg(metavar=kind, help_behavior_hint=f"(default: {default})")


_InitialStd = Annotated[
    float | None,
    _given("FLOAT [FLOAT ...]", "0.0001"),
    Flag(POSITIVE, law="log", needs=("initializer", {"normal": 1e-4})),
]
_NegativeSlope = Annotated[
    float | None,
    _given("FLOAT [FLOAT ...]", "0.01"),
    Flag(FINITE, traced=True, law="uniform", needs=("activation", {"leaky_relu": 0.01})),
]
_Alpha = Annotated[
    float | None,
    _given("FLOAT [FLOAT ...]", "1"),
    Flag(POSITIVE, traced=True, law="uniform", needs=("activation", {"elu": 1.0})),
]


@dataclass(frozen=True)
class Network:
    """The network."""


@dataclass(frozen=True)
class Mlp(Network):
    """Multilayer perceptron: per hidden layer a linear map, norm, activation and dropout.

    Attributes:
        hidden: Widths of the hidden layers joined by "-", such as 100 or 500-100; the short form
            of 1000-1000-1000 is 3x1000.
        activation: Activation function (gelu exact).
        norm: Normalisation before each activation: over the batch, or over each example's layer.
        dropout: Probability to drop an activation while training, in [0, 1).
        initializer: Initial weights of a layer with n inputs and m outputs: he N(0, 2/n); glorot
            U(-a, a) with a^2 = 6/(n + m); pytorch U(-a, a) with a^2 = 1/n, biases too; normal
            N(0, s^2) with s = --initial-std. Biases are 0 otherwise.
        initial_std: Standard deviation of --initializer normal.
        negative_slope: Slope of --activation leaky_relu left of 0.
        alpha: Minus what --activation elu approaches far left of 0.
    """

    hidden: Annotated[
        str,
        tyro.conf.arg(metavar="WIDTHS [WIDTHS ...]"),
        Flag(
            Allowed(
                lambda text: bool(hidden_widths(text)),
                "1 to 1000 widths, each from 1 to 1000000, joined by -, such as 100, 500-100 or "
                "3x1000",
            )
        ),
    ] = "100"
    activation: Activation = "relu"
    norm: Literal["none", "batch", "layer", "rms"] = "none"
    dropout: Annotated[float, Flag(BELOW_1, traced=True, law="uniform", off=0.0)] = 0.0
    initializer: Literal["he", "glorot", "pytorch", "normal"] = "he"
    initial_std: _InitialStd = None
    negative_slope: _NegativeSlope = None
    alpha: _Alpha = None


@dataclass(frozen=True)
class Convnet(Network):
    """Convolutional network.

    Attributes:
        architecture: small, 32 and 64 features, each 3x3 convolution with batch norm, activation
            and max pool; convnet, eight convolutions of 64 to 512 features in five such stages;
            preact, nine residual convolutions of 64 to 512 features, each after batch norm and
            activation.
        activation: Activation function (gelu exact).
        initializer: Initial weights of a convolution or linear map that sums n inputs and reaches
            m outputs: he N(0, 2/n); glorot U(-a, a) with a^2 = 6/(n + m); pytorch U(-a, a) with
            a^2 = 1/n, biases too; normal N(0, s^2) with s = --initial-std. Biases are 0 otherwise.
        initial_std: Standard deviation of --initializer normal.
        negative_slope: Slope of --activation leaky_relu left of 0.
        alpha: Minus what --activation elu approaches far left of 0.
    """

    architecture: Literal["small", "convnet", "preact"] = "small"
    activation: Activation = "relu"
    initializer: Literal["he", "glorot", "pytorch", "normal"] = "he"
    initial_std: _InitialStd = None
    negative_slope: _NegativeSlope = None
    alpha: _Alpha = None


class Source(NamedTuple):
    """The code of a network of one's own.

    Attributes:
        name: FILE.py:FUNCTION with an absolute path, or PACKAGE.MODULE:FUNCTION.
        sha256: of the file; "" where there is none.
    """

    name: str
    sha256: str

    @property
    def function(self) -> str:
        """The name of the function."""
        return self.name.rpartition(":")[2]


@dataclass(frozen=True)
class Own(Network):
    """A network of one's own: a subclass has a field for each keyword of its function."""


# How data are read; other commands have these flags too.
DataDir = Annotated[
    Path | None, _given("DIR", "$TFDS_DATA_DIR, or ~/tensorflow_datasets"), Flag(one=True)
]
Label = Annotated[str | None, _given("COLUMN", "the last"), Flag(one=True, before=None)]
Missing = Annotated[
    Literal["mean"] | None, _given("{mean}", "refused"), Flag(one=True, before=None)
]
Test = Annotated[
    float | None,
    _given("FLOAT", "0.2"),
    Flag(
        Allowed(
            lambda x: 0 < x < 1 or (1 <= x < 2**31 and x == int(x)),
            "a share between 0 and 1, or a whole number",
        ),
        one=True,
        before=None,
    ),
]
ImageSize = Annotated[
    str | None,
    _given("SIZE", "as they are"),
    Flag(
        Allowed(
            lambda text: bool(re.fullmatch(r"[1-9][0-9]{0,3}(x[1-9][0-9]{0,3})?", text)),
            "height and width below 10000, such as 32x48, or one number for both",
        ),
        one=True,
        before=None,
    ),
]


@dataclass(frozen=True)
class Data:
    """The data.

    Attributes:
        dataset: Data set: digits (of 8x8 pixels, comes with scikit-learn), synth (points of the
            plane in two classes), or one that TensorFlow Datasets or "python -m train.data
            prepare" left, such as mnist (28x28) or cifar10 (32x32, colour). Or data of one's own,
            by their path: FILE.npz with arrays x and y, and perhaps x_test and y_test; FILE.csv or
            FILE.parquet with named columns of numbers and words; ./DIR of images, DIR/CLASS/* or
            DIR/train/CLASS/* and DIR/test/CLASS/*.
        data_dir: Folder of the prepared data sets.
        label: Column of the labels, of a .csv or .parquet file.
        missing: Fill missing values of a .csv or .parquet file by the mean of their column over
            the training rows, or its most frequent word; otherwise they are refused.
        test: Examples that are held out to test on, where the data have none: a share below 1, or
            a number from 1 on; of each class the same share.
        image_size: Size that images are brought to, HxW or one number for both, where they have
            several.
        train_examples: Take the first so many training images alone, to validate on among them.
        test_examples: Take the first so many test images alone.
        preprocessing: What the network sees: standardize, pixels minus the mean training image,
            divided by the standard deviation of that difference over all pixels, and of a table
            each column of numbers minus its mean, divided by its standard deviation; mean-image,
            pixels as stored minus the mean training image; unit, pixels scaled to [0, 1].
        validation: Training images that are held out and evaluated on, the last ones: a share
            below 1, or a number from 1 on; 0 for none. The test set is for the end alone.
        folds: K-fold cross-validation instead: every run is made so many times, each with another
            part of the training images held out.
        augment: Random changes of each training image in each step, joined by "-": flip, left to
            right, of every second; shift, by up to an eighth of the image; cutout, a square of half
            the image's side erased. What enters is the mean image, or black with --preprocessing
            unit.
    """

    dataset: Annotated[str, tyro.conf.arg(metavar="NAME|PATH"), Flag(one=True)] = "digits"
    data_dir: DataDir = None
    label: Label = None
    missing: Missing = None
    test: Test = None
    image_size: ImageSize = None
    train_examples: Annotated[int | None, _given("INT", "all"), Flag(AT_LEAST_1, one=True)] = None
    test_examples: Annotated[int | None, _given("INT", "all"), Flag(AT_LEAST_1, one=True)] = None
    preprocessing: Literal["standardize", "mean-image", "unit"] = "standardize"
    validation: Annotated[
        float | None,
        _given("FLOAT", "0.1"),
        Flag(
            Allowed(
                lambda x: 0 <= x < 1 or (1 <= x < 2**31 and x == int(x)),
                "0 for none, a share below 1, or a whole number",
            ),
            one=True,
        ),
    ] = None
    folds: Annotated[
        int | None,
        _given("INT", "not used"),
        Flag(Allowed(lambda n: 2 <= n <= 1000, "a whole number from 2 to 1000"), one=True),
    ] = None
    augment: Annotated[
        str,
        tyro.conf.arg(metavar="CHANGES [CHANGES ...]"),
        Flag(
            Allowed(
                lambda text: augmentations(text) is not None,
                f"none, or some of {', '.join(AUGMENTATIONS)}, joined by -",
            )
        ),
    ] = "none"
    # Which of the folds is held out; the sweep counts it.
    fold: Annotated[int | None, tyro.conf.Suppress, Flag(one=True)] = None


@dataclass(frozen=True)
class Training:
    """The loss is the mean cross-entropy of a batch, in nats.

    Attributes:
        optimizer: Update rule; momentum and nesterov are sgd with --momentum; the weight decay of
            adamw, nadamw, lion, lamb, lars and muon is --weight-decay; muon moves biases and scales
            by adamw. All other settings are the defaults of optax.
        learning_rate: Learning rate, positive: its highest value over the run.
        schedule: What the learning rate is multiplied by: constant, 1; exponential, --decay to the
            number of epochs done; step, --decay to the number of times that --decay-epochs epochs
            are done; cosine, from 1 towards 0, the last of N steps has about 2.5/N^2; one-cycle,
            from 0.04 to 1 in the first 0.3 of the steps, then towards 0.000004, the last of N
            steps has about 0.000004 + 5/N^2. All but one-cycle begin after --warmup-steps.
        decay: Factor of --schedule exponential or step, above 0 and at most 1.
        decay_epochs: Epochs from one decay of --schedule step to the next.
        warmup_steps: Steps in which the learning rate grows evenly to its value, fewer than there
            are; --schedule one-cycle rises in these steps instead of the first 0.3.
        momentum: Decay of the velocity of --optimizer momentum, nesterov or lars, in [0, 1).
        weight_decay: Decoupled weight decay, of all parameters, not negative; a step takes learning
            rate times this off each.
        clip_norm: Largest norm of a gradient, all parameters together; a longer one is shortened.
        l2: Coefficient of the sum of squares of all weights (no 1/2; not the biases and scales),
            added to the loss that is minimised and left out of the loss that is reported.
        label_smoothing: Share of each training label that is spread evenly over the classes, from
            0 to 1; the loss that is reported is that of the plain labels.
        steps: Number of updates.
        epochs: Passes through the training set, instead of --steps; the examples left over at the
            end of each pass, fewer than a batch, are not used in it.
        batch_size: Examples per update.
        patience: Stop a run after so many evaluations without a new lowest validation loss.
        keep: Parameters that a run keeps, and is tested with: last, those of its last step; best,
            those of its evaluation with the lowest validation loss.
        precision: Of the network's activations and gradients; parameters, optimizer and loss are
            float32 in any case.
        eval_every: Steps from one evaluation to the next. Each takes the whole validation set, and
            the mean of the training loss and accuracy over the batches since the one before.
        test_curve: Evaluate on the test set at every evaluation, not at the end alone.
        gradient_norms: Report the mean and the largest norm of the gradients of the single
            examples of the last batch before each evaluation.
        seed: Seed of the initial weights, the order of the batches, dropout and augmentation,
            below 2^32.
        gradient: Use the gradients written out by hand in jaxnets (explicit), or forget them and
            let JAX differentiate (autodiff); the results agree to rounding.
    """

    optimizer: Optimizer = "adam"
    learning_rate: Annotated[float, Flag(POSITIVE, traced=True, law="log")] = 1e-3
    schedule: Literal["constant", "exponential", "step", "cosine", "one-cycle"] = "constant"
    decay: Annotated[
        float | None,
        _given("FLOAT [FLOAT ...]", "0.95 of exponential, 0.1 of step"),
        Flag(
            Allowed(lambda x: 0 < x <= 1, "above 0 and at most 1 in float32"),
            traced=True,
            law="log from 1",
            needs=("schedule", {"exponential": 0.95, "step": 0.1}),
        ),
    ] = None
    decay_epochs: Annotated[
        int | None,
        _given("INT [INT ...]", "10"),
        Flag(AT_LEAST_1, needs=("schedule", {"step": 10})),
    ] = None
    warmup_steps: Annotated[int, Flag(AT_LEAST_0)] = 0
    momentum: Annotated[
        float | None,
        _given("FLOAT [FLOAT ...]", "0.9"),
        Flag(
            BELOW_1,
            traced=True,
            law="log from 1",
            needs=("optimizer", dict.fromkeys(("momentum", "nesterov", "lars"), 0.9)),
        ),
    ] = None
    weight_decay: Annotated[
        float | None,
        _given("FLOAT [FLOAT ...]", "0.01"),
        Flag(
            NOT_NEGATIVE,
            traced=True,
            law="log",
            needs=(
                "optimizer",
                dict.fromkeys(("adamw", "nadamw", "lion", "lamb", "lars", "muon"), 0.01),
            ),
        ),
    ] = None
    clip_norm: Annotated[
        float | None,
        _given("FLOAT [FLOAT ...]", "not used"),
        Flag(POSITIVE, traced=True, law="log", off=math.inf),
    ] = None
    l2: Annotated[float, Flag(NOT_NEGATIVE, traced=True, law="log", off=0.0)] = 0.0
    label_smoothing: Annotated[
        float,
        Flag(Allowed(lambda x: 0 <= x <= 1, "from 0 to 1"), traced=True, law="uniform", off=0.0),
    ] = 0.0
    steps: Annotated[int | None, _given("INT [INT ...]", "1500"), Flag(AT_LEAST_1)] = None
    epochs: Annotated[int | None, _given("INT [INT ...]", "not used"), Flag(AT_LEAST_1)] = None
    batch_size: Annotated[int, Flag(AT_LEAST_1)] = 200
    patience: Annotated[int | None, _given("INT [INT ...]", "not used"), Flag(AT_LEAST_1)] = None
    keep: Annotated[
        Literal["last", "best"] | None,
        _given("{last,best}", "best with --patience, otherwise last"),
        Flag(one=True, before="last"),
    ] = None
    precision: Literal["float32", "bfloat16"] = "float32"
    eval_every: Annotated[int, Flag(AT_LEAST_1, one=True)] = 100
    test_curve: Annotated[Switch, Flag(one=True)] = False
    gradient_norms: Annotated[Switch, Flag(one=True)] = False
    seed: Annotated[
        int,
        Flag(Allowed(lambda n: 0 <= n < 2**32, "a whole number from 0 on, below 2^32"), one=True),
    ] = 0
    gradient: Annotated[Literal["explicit", "autodiff"], Flag(one=True)] = "explicit"


@dataclass(frozen=True)
class Lockstep:
    """Many runs: a flag that shows several values trains the product of all such flags.

    Attributes:
        seeds: Number of runs of each configuration, with the seeds from --seed on.
        search: Draw so many configurations at random instead of the product, such as random:40: a
            flag of real numbers that shows two values is a range (log-uniform for rates, decays,
            norms and deviations, uniform for the others), of any other one value is drawn. The
            draws depend on --seed.
        lockstep: Runs of one shape that train at the same time on a device, in one compiled
            program; auto takes all on an accelerator, and what was measured to be fast on a CPU.
        shard: What is spread over several devices: the runs, or the batch of each.
        dry_run: Measure a few steps, say what all would take, and train nothing.
    """

    seeds: Annotated[
        int, Flag(Allowed(lambda n: 1 <= n <= 10_000, "a whole number from 1 to 10000"))
    ] = 1
    search: Annotated[
        str | None,
        _given("random:INT", "not used"),
        Flag(
            Allowed(
                lambda text: bool(re.fullmatch(r"random:[1-9][0-9]{0,4}", text)),
                "random: and how many configurations, such as random:40",
            )
        ),
    ] = None
    lockstep: Annotated[
        int | Literal["auto"],
        tyro.conf.arg(metavar="{auto}|INT"),
        Flag(
            Allowed(
                lambda n: n == "auto" or 1 <= n < 2**31,
                "auto, or a whole number from 1 on, below 2^31",
            )
        ),
    ] = "auto"
    shard: Literal["runs", "batch"] = "runs"
    dry_run: Switch = False


@dataclass(frozen=True)
class Machines:
    """Several machines: the same command on each, with a run directory that all of them see.

    Attributes:
        distributed: Train on the devices of several processes, of one machine or of many. Nothing
            more is needed where JAX knows the cluster: Slurm, Open MPI, Kubernetes, TPU pods.
        coordinator: Elsewhere: the machine of process 0 and a free port of it, such as
            10.0.0.1:7000.
        processes: Elsewhere: the number of processes.
        process_id: Elsewhere: which of them this is, from 0 on.
    """

    distributed: Switch = False
    coordinator: Annotated[
        str | None,
        _given("HOST:PORT", "of the cluster"),
        Flag(
            Allowed(
                lambda text: bool(re.fullmatch(r".+:[1-9][0-9]{0,4}", text)),
                "a machine and a free port of it, such as 10.0.0.1:7000",
            )
        ),
    ] = None
    processes: Annotated[int | None, _given("INT", "of the cluster"), Flag(AT_LEAST_1)] = None
    process_id: Annotated[int | None, _given("INT", "of the cluster"), Flag(AT_LEAST_0)] = None


@dataclass(frozen=True)
class Output:
    """The files of a run.

    Attributes:
        out: The run directory, absent, empty or that of the same command to resume:
            config.json, metrics.jsonl (a line per evaluation of a run), summary.json, curves.png
            and parameters.
        resume: A run directory to resume; no other flag is needed. With larger --steps or
            --epochs a finished run is trained on.
        tensorboard: Write event files for TensorBoard too, to its folder tensorboard.
    """

    out: Annotated[Path | None, _given("DIR", "runs/DATASET-NETWORK-TIME"), Flag(one=True)] = None
    resume: Annotated[Path | None, _given("DIR", "a new run"), Flag(one=True)] = None
    tensorboard: Annotated[Switch, Flag(one=True)] = False


@dataclass(frozen=True)
class Run:
    """A run; each command has its own network.

    Attributes:
        command: the module that trains it, such as train.mlp.
        source: the code of its network, where that is not of this project.
    """

    command: ClassVar[str] = ""
    source: ClassVar[Source | None] = None

    network: Network = Network()
    data: Data = Data()
    training: Training = Training()
    output: Output = Output()

    @classmethod
    def started(cls) -> str:
        """Return the words that start the command."""
        own = [] if cls.source is None else [shlex.quote(cls.source.name)]
        return " ".join(["python -m", cls.command, *own])

    @classmethod
    def settled(cls, runs: Sequence[Any], shape: tuple[int, ...], classes: int) -> tuple[Any, ...]:
        """Return runs of this class as they are trained on examples of a shape, of some classes.

        Raises:
            Refusal: their network does not take these data.
        """
        return tuple(runs)


@dataclass(frozen=True)
class MlpRun(Run):
    """A run of `python -m train.mlp`."""

    command: ClassVar[str] = "train.mlp"
    network: Mlp = Mlp()


@dataclass(frozen=True)
class ConvnetRun(Run):
    """A run of `python -m train.convnet`."""

    command: ClassVar[str] = "train.convnet"
    network: Convnet = Convnet()


R = TypeVar("R", bound=Run)


def flags(run: Run) -> dict[str, Any]:
    """Return all flags of a run by name, paths as strings."""
    values: dict[str, Any] = {}
    for part in dataclasses.fields(run):
        values.update(dataclasses.asdict(getattr(run, part.name)))
    return {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}


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


# --- what the fields say -------------------------------------------------------------------------


def _declared(*parts: type) -> Iterator[tuple[str, Flag]]:
    """Yield what is declared of each flag of some dataclasses."""
    for part in parts:
        for name, hint in typing.get_type_hints(part, include_extras=True).items():
            notes = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
            yield name, next((note for note in notes if isinstance(note, Flag)), Flag())


def parts(kind: type[Run]) -> Mapping[str, type]:
    """Return the dataclasses of a run by the name of their field."""
    known: Any = kind
    return _known(known)[0]


def declared(kind: type[Run]) -> Mapping[str, Flag]:
    """Return what is declared of each flag of a command."""
    known: Any = kind
    return _known(known)[1]


@functools.cache  # For mypy the class of a dataclass is not hashable, so this takes Any.
def _known(kind: Any) -> tuple[Mapping[str, type], Mapping[str, Flag]]:
    hints = typing.get_type_hints(kind)
    found = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return found, dict(_declared(*found.values(), Lockstep, Machines))


# Those of all commands of this project, of the training first.
FLAGS = dict(_declared(Training, Mlp, Convnet, Data, Lockstep, Machines, Output))

# The numbers in which the runs of one compiled program may differ.
TRACED = tuple(name for name, flag in FLAGS.items() if flag.traced)

ONE_VALUE = {name for name, flag in FLAGS.items() if flag.one}
