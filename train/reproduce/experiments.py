"""The experiments of five course reports on hand-written gradients, as commands.

The settings are those of the report's text; where it leaves one out, those of the assignment that
it answers: float pixels minus the mean training image, a batch of 200, the whole test set every 100
steps, and weights N(0, 1e-4^2) and biases 0 for networks whose modules are written by hand, and for
those of D, whose numbers a network that begins like PyTorch's does not reach.

A: UvA 2018 (ReLU, batch norm). B: UvA 2019 (leaky ReLU, batch norm). C: Sapienza 2021 (two-layer
net with L2). D: UvA 2020 (ELU, layer norm). E: VU 2020 (from scalars to batches).

Long: it is a table.
"""

from typing import Literal, NamedTuple


class Reported(NamedTuple):
    """A number of a report, and where ours stands.

    Attributes:
        where: the flags that tell the configuration from the others of the experiment.
        metric: such as "test_accuracy".
        value: the number; a report's single run unless `deviation` says otherwise.
        which: ours at the end, or the best of all evaluations.
        deviation: the standard deviation that the report gives.
    """

    where: dict[str, object]
    metric: str
    value: float
    which: Literal["final", "best"] = "final"
    deviation: float | None = None


class Experiment(NamedTuple):
    """An experiment of a report.

    Attributes:
        name: a letter for the report and a number.
        source: where the report has it.
        title: what it is.
        commands: what follows `python -m train.`.
        reported: the numbers of the report.
        minutes: about how long one seed took on two cores of a CPU that did other work too; None
            where it was not run in full.
        figure: "curves" of loss and accuracy; "against", the accuracy against a flag, a line for
            each value of another; "heat map", the accuracy for each pair of values of two flags.
        flags: the two flags of such a figure.
        axis: what curves are drawn against.
        note: what to know of it.
        quick: flags of its reduced form.
    """

    name: str
    source: str
    title: str
    commands: tuple[str, ...] = ()
    reported: tuple[Reported, ...] = ()
    minutes: float | None = None
    figure: Literal["curves", "against", "heat map"] = "curves"
    flags: tuple[str, str] = ("", "")
    axis: Literal["step", "epoch"] = "step"
    note: str = ""
    quick: str = ""


def _rows(metric: str, text: str, *names: str) -> tuple[Reported, ...]:
    """The rows of a table, "1x100 0.002 1500 39.6": values of flags, and a percentage."""
    found = []
    for line in text.strip().splitlines():
        *values, percent = line.split()
        where = dict(zip(names, map(_value, values), strict=True))
        found.append(Reported(where, metric, float(percent) / 100))
    return tuple(found)


def _value(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


CIFAR = (
    "--dataset cifar10 --preprocessing mean-image --validation 0 --test-curve "
    "--batch-size 200 --eval-every 100"
)
BY_HAND = f"mlp {CIFAR} --optimizer sgd --initializer normal --initial-std 1e-4"
FRAMEWORK = f"mlp {CIFAR} --optimizer sgd --initializer pytorch"
CONVNET = (
    "convnet --dataset cifar10 --preprocessing mean-image --validation 0 --test-curve "
    "--optimizer adam --learning-rate 1e-4 --batch-size 32 --steps 5000 --eval-every 500 "
    "--initializer pytorch"
)
TWO_LAYER = (
    "mlp --dataset cifar10 --preprocessing mean-image --validation 1000 --test-examples 1000 "
    "--activation relu --optimizer sgd --initializer normal --initial-std 1e-4 --batch-size 200 "
    "--l2 0.25 --schedule exponential"
)
MNIST = "mlp --dataset mnist --preprocessing unit --hidden 300 --activation sigmoid --optimizer sgd"

EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment(
        "A1",
        "UvA 2018, section 1.2, figure 1",
        "MLP with hand-written modules on CIFAR-10",
        (f"{BY_HAND} --hidden 100 --activation relu --learning-rate 2e-3 --steps 1500",),
        (Reported({}, "test_accuracy", 0.47, "best"),),
        minutes=0.5,
    ),
    Experiment(
        "A2",
        "UvA 2018, table 1, figure 2",
        "Width, depth and number of steps",
        (
            f"{FRAMEWORK} --hidden 1x100 1x500 --learning-rate 2e-3 --steps 1500",
            f"{FRAMEWORK} --hidden 1x1000 5x100 --learning-rate 2e-3 --steps 1500 5000 10000",
            f"{FRAMEWORK} --hidden 3x1000 --learning-rate 2e-3 --steps 5000 10000",
            f"{FRAMEWORK} --hidden 5x1000 --learning-rate 1e-3 2e-3 --steps 5000 10000",
            f"{FRAMEWORK} --hidden 3x4000 --learning-rate 2e-3 --steps 5000 10000",
        ),
        _rows(
            "test_accuracy",
            """
            1x100   0.002  1500  39.6
            1x500   0.002  1500  32.3
            1x1000  0.002  1500  24.8
            1x1000  0.002  5000  39.1
            1x1000  0.002  10000 41.1
            5x100   0.002  1500  44.8
            5x100   0.002  5000  50.0
            5x100   0.002  10000 50.2
            3x1000  0.002  5000  50.0
            3x1000  0.002  10000 51.8
            5x1000  0.002  5000  50.4
            5x1000  0.002  10000 50.0
            5x1000  0.001  5000  50.6
            5x1000  0.001  10000 51.0
            3x4000  0.002  5000  52.1
            3x4000  0.002  10000 53.5
            """,
            "hidden",
            "learning_rate",
            "steps",
        ),
    ),
    Experiment("A3", "UvA 2018, section 3", "Batch norm: gradients of x, gamma and beta"),
    Experiment(
        "A4",
        "UvA 2018, section 4, figure 3",
        "ConvNet on CIFAR-10",
        (f"{CONVNET} --architecture convnet",),
        (Reported({}, "test_accuracy", 0.75, "best"),),
        minutes=10,
        note="The report shows curves alone; 0.75 is what the assignment leads one to expect.",
    ),
    Experiment(
        "B1",
        "UvA 2019, question 1.2, figure 1",
        "MLP with hand-written modules, leaky ReLU",
        (
            f"{BY_HAND} --hidden 100 --activation leaky_relu --negative-slope 0.02 "
            f"--learning-rate 2e-3 --steps 500 1500",
        ),
        (
            Reported({"steps": 1500}, "test_accuracy", 0.4732),
            Reported({"steps": 500}, "test_accuracy", 0.4604),
        ),
        minutes=0.5,
    ),
    Experiment(
        "B2",
        "UvA 2019, question 2, figures 2 and 3",
        "The same with PyTorch's default initialisation",
        (
            f"{FRAMEWORK} --hidden 100 --activation leaky_relu --negative-slope 0.02 "
            f"--learning-rate 2e-3 --steps 1500 2500",
        ),
        (
            Reported({"steps": 1500}, "test_accuracy", 0.4079),
            Reported({"steps": 2500}, "test_accuracy", 0.4615),
        ),
        minutes=0.5,
    ),
    Experiment(
        "B3",
        "UvA 2019, question 2, figure 4",
        "Deep MLP with Adam",
        (
            f"{FRAMEWORK} --hidden 300-200-100-100-50-50 --activation leaky_relu "
            f"--negative-slope 0.02 --optimizer adam --learning-rate 2e-3 --steps 2500",
        ),
        (Reported({}, "test_accuracy", 0.5226),),
        minutes=0.3,
        note="The report does not say whether the learning rate is the assignment's; it is here.",
    ),
    Experiment("B4", "UvA 2019, section 3", "Batch norm by hand passes the assignment's test"),
    Experiment(
        "B5",
        "UvA 2019, question 1.2, below figure 1",
        "Early stopping",
        (
            f"{BY_HAND} --hidden 100 --activation leaky_relu --negative-slope 0.02 "
            f"--learning-rate 2e-3 --steps 1500 --validation 5000 --patience 1 3 5",
        ),
        minutes=0.3,
        note="The report proposes it, on the test set; here a validation set decides when to stop.",
    ),
    Experiment(
        "B6",
        "UvA 2019, question 4, figure 5",
        "ConvNet on CIFAR-10, evaluated on 1000 test images",
        (f"{CONVNET} --architecture convnet --test-examples 1000",),
        (Reported({}, "test_accuracy", 0.726),),
        minutes=10,
        note="The report draws 1000 test images anew for each evaluation; here they are the first.",
    ),
    Experiment("B7", "UvA 2019, question 1.1c", "Gradients for a batch"),
    Experiment("C0", "Sapienza 2021, question 2", "Two-layer net with L2: loss and gradients"),
    Experiment(
        "C1",
        "Sapienza 2021, question 3b",
        "Two-layer net, the handout's settings",
        (f"{TWO_LAYER} --hidden 50 --learning-rate 1e-4 --decay 0.95 --steps 1000",),
        (Reported({}, "validation_accuracy", 0.29),),
        minutes=0.1,
    ),
    Experiment(
        "C2",
        "Sapienza 2021, question 3b",
        "Hidden size and learning rate, by validation accuracy",
        (
            f"{TWO_LAYER} --hidden 50 100 200 350 500 --learning-rate 1e-4 3e-4 1e-3 3e-3 "
            f"--decay 0.95 --steps 3000",
        ),
        minutes=4,
        figure="heat map",
        flags=("learning_rate", "hidden"),
        note="The report picks 350 and 1e-3, and gives no table.",
    ),
    Experiment(
        "C3",
        "Sapienza 2021, question 3b",
        "The tuned two-layer net",
        (f"{TWO_LAYER} --hidden 350 --learning-rate 1e-3 --decay 0.92 --steps 30000",),
        (
            Reported({}, "validation_accuracy", 0.586),
            Reported({}, "test_accuracy", 0.575),
        ),
        minutes=4,
    ),
    Experiment(
        "C4",
        "Sapienza 2021, question 4b",
        "Two-layer net with the framework's layers",
        (
            "mlp --dataset cifar10 --validation 1000 --test-examples 1000 --hidden 50 "
            "--initializer pytorch --optimizer adam --learning-rate 1e-3 --batch-size 200 "
            "--epochs 10",
        ),
        (Reported({}, "validation_accuracy", 0.514),),
        minutes=0.1,
        note="The report gives the accuracy alone; the handout's framework part begins with these.",
    ),
    Experiment(
        "C5",
        "Sapienza 2021, question 4c, table 1",
        "Depth, dropout and batch norm",
        tuple(
            "mlp --dataset cifar10 --validation 1000 --test-examples 1000 --activation relu "
            "--norm batch --initializer pytorch --optimizer adam --learning-rate 1e-3 "
            f"--batch-size 256 --epochs 100 --eval-every 975 --hidden {hidden} --dropout {rate}"
            for hidden, rate in (
                ("2000-700", 0.4),
                ("700-400-100", 0.4),
                ("700-400-100-300", 0),
                ("700-400-100-300-200", 0),
            )
        ),
        (
            Reported({"hidden": "2000-700"}, "validation_accuracy", 0.551),
            Reported({"hidden": "700-400-100"}, "validation_accuracy", 0.55),
            Reported({"hidden": "700-400-100-300"}, "validation_accuracy", 0.545),
            Reported({"hidden": "700-400-100-300-200"}, "validation_accuracy", 0.528),
            Reported({"hidden": "2000-700"}, "test_accuracy", 0.59),
        ),
        minutes=21,
        note="Batch norm and dropout stand after every hidden layer here; the report's best net "
        "has one of each. Its optimizer and learning rate are not given.",
    ),
    Experiment(
        "D1",
        "UvA 2020, question 1.1 a to c",
        "Matrix forms: linear, activation, softmax, cross-entropy",
    ),
    Experiment("D2", "UvA 2020, question 1.1 d", "Convolution by the sum over positions"),
    Experiment(
        "D3",
        "UvA 2020, question 1.2, figure 1",
        "MLP with hand-written modules, ELU",
        (f"{BY_HAND} --hidden 100 --activation elu --learning-rate 1e-3 --steps 1400",),
        (
            Reported({}, "test_accuracy", 0.49, "best"),
            Reported({}, "train_accuracy", 0.55, "best"),
        ),
        minutes=0.5,
    ),
    Experiment(
        "D4",
        "UvA 2020, question 2.1, figure 2",
        "Tuned MLP with momentum",
        (
            f"{BY_HAND} --hidden 500-100 --activation elu --optimizer momentum "
            f"--learning-rate 1e-3 --steps 3000",
        ),
        (
            Reported({}, "test_accuracy", 0.54, "best"),
            Reported({}, "train_accuracy", 0.63, "best"),
        ),
        minutes=0.3,
    ),
    Experiment(
        "D5",
        "UvA 2020, question 2.1",
        "The version with Adam",
        (
            f"{BY_HAND} --hidden 1000-500-100 --activation elu --optimizer adam "
            f"--learning-rate 1e-3 --steps 3000",
        ),
        (Reported({}, "test_accuracy", 0.54, "best"),),
        minutes=0.7,
    ),
    Experiment(
        "D6",
        "UvA 2020, question 2.2",
        "Tanh against ELU",
        (
            f"{BY_HAND} --hidden 500-100 --activation tanh elu --optimizer momentum "
            f"--learning-rate 1e-3 --steps 3000",
        ),
        (
            Reported({"activation": "tanh"}, "test_accuracy", 0.44, "best"),
            Reported({"activation": "elu"}, "test_accuracy", 0.54, "best"),
        ),
        minutes=0.6,
        note="The report's Tanh came to its accuracy over a much longer training.",
    ),
    Experiment(
        "D7",
        "UvA 2020, question 3.2 a and d",
        "Layer norm by hand, and batch norm against layer norm as the batch shrinks",
        (
            "mlp --dataset mnist --hidden 100-100 --activation elu --norm batch layer "
            "--optimizer sgd --learning-rate 0.01 --batch-size 1 2 4 8 16 32 64 128 256 "
            "--epochs 1 --eval-every 100000",
        ),
        minutes=0.5,
        figure="against",
        flags=("batch_size", "norm"),
        quick="--batch-size 1 16 256",
        note="The report argues in words. One epoch of MNIST, one learning rate for all batches.",
    ),
    Experiment(
        "D8",
        "UvA 2020, question 4, figure 3",
        "Pre-activation ConvNet on CIFAR-10",
        (f"{CONVNET} --architecture preact",),
        (Reported({}, "test_accuracy", 0.80, "best"),),
        minutes=17,
    ),
    Experiment(
        "E1", "VU 2020, question 3, table 1", "The 2-3-2 network by hand, down to each weight"
    ),
    Experiment(
        "E2",
        "VU 2020, question 4, figure 1",
        "The 2-3-2 network on random points of the plane",
        (
            "mlp --dataset synth --hidden 3 --activation sigmoid --optimizer sgd "
            "--learning-rate 0.01 --batch-size 1 --epochs 100 --eval-every 60000 "
            "--preprocessing unit --validation 0",
        ),
        (Reported({}, "train_loss", 0.05),),
        minutes=0.1,
        axis="epoch",
    ),
    Experiment("E3", "VU 2020, question 6, tables 2 and 3", "Shapes of one example and of a batch"),
    Experiment(
        "E4",
        "VU 2020, question 7, figure 2",
        "Loss of each batch against the step, MNIST",
        (
            f"{MNIST} --validation 5000 --learning-rate 0.01 --batch-size 32 --epochs 5 "
            f"--eval-every 10",
        ),
        minutes=0.5,
        note="Each point is the mean of 10 batches.",
    ),
    Experiment(
        "E5",
        "VU 2020, question 7, figure 3",
        "Mean and deviation per epoch, training and validation",
        (
            f"{MNIST} --validation 5000 --learning-rate 0.01 --batch-size 32 --epochs 5 "
            f"--eval-every 1718",
        ),
        minutes=0.1,
        axis="epoch",
    ),
    Experiment(
        "E6",
        "VU 2020, question 7, table 4",
        "Learning rates, one example at a time",
        (
            f"{MNIST} --validation 5000 --learning-rate 0.001 0.003 0.01 0.03 --batch-size 1 "
            f"--epochs 5 --eval-every 55000",
        ),
        (
            Reported({"learning_rate": 0.001}, "validation_loss", 0.2524, deviation=0.0059),
            Reported({"learning_rate": 0.001}, "validation_accuracy", 0.9266, deviation=0.0028),
            Reported({"learning_rate": 0.003}, "validation_loss", 0.1871, deviation=0.0067),
            Reported({"learning_rate": 0.003}, "validation_accuracy", 0.9459, deviation=0.0017),
            Reported({"learning_rate": 0.01}, "validation_loss", 0.1398, deviation=0.0067),
            Reported({"learning_rate": 0.01}, "validation_accuracy", 0.9598, deviation=0.0026),
            Reported({"learning_rate": 0.03}, "validation_loss", 0.1287, deviation=0.0060),
            Reported({"learning_rate": 0.03}, "validation_accuracy", 0.9667, deviation=0.0023),
        ),
        minutes=0.5,
        note="The report does not say how the weights begin, nor how pixels are scaled.",
    ),
    Experiment(
        "E7",
        "VU 2020, question 7, below table 4",
        "All training images and the test set",
        (
            f"{MNIST} --validation 0 --learning-rate 0.03 --batch-size 1 --epochs 5 "
            f"--eval-every 60000",
        ),
        (
            Reported({}, "test_loss", 0.124),
            Reported({}, "test_accuracy", 0.971),
        ),
        minutes=0.2,
    ),
    Experiment(
        "grid486",
        "UvA, a student report of another year",
        "A grid of 486 cells",
        (
            f"mlp {CIFAR} --initializer pytorch --learning-rate 2e-2 2e-3 2e-4 "
            f"--steps 1500 3000 --batch-size 100 200 400 --optimizer sgd adam adadelta "
            f"--hidden 1x100 2x100 3x100 1x200 2x200 3x200 1x400 2x400 3x400",
        ),
        (
            Reported(
                {
                    "hidden": "3x400",
                    "learning_rate": 2e-4,
                    "steps": 3000,
                    "batch_size": 400,
                    "optimizer": "adam",
                },
                "test_accuracy",
                0.5192,
            ),
        ),
        figure="heat map",
        flags=("learning_rate", "hidden"),
        note="The best cell is the one whose number the report gives.",
        quick="--hidden 1x100 3x400 --batch-size 400",
    ),
)
