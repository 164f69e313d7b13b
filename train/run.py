"""A training command, from its flags to its run directory.

What the commands share; each has flags and a network of its own. Nothing slow is imported before
the flags and the run directory are found to be in order, and nothing is written before the data
are.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from train import data, report, store
from train.config import ConfigError, Run, flags, parse

if TYPE_CHECKING:
    from jaxnets.layers import Layer
    from train.program import Hyper

R = TypeVar("R", bound=Run)

# The network of a command: `network(run, hyper, classes)`.
Network = Callable[[R, "Hyper", int], "Layer"]


def command(
    kind: type[R], network: Network[R], name: str, arguments: Sequence[str] | None, description: str
) -> int:
    """Run a training command.

    Args:
        kind: the dataclass of its flags.
        network: its network.
        name: the command is `python -m train.NAME`.
        arguments: the words after the command; None for those of this process.
        description: what the help says that it does.

    Returns:
        The exit status: 0; 1 after a loss that is not finite, or a file that cannot be written; 2
        after wrong flags or missing data; 130 after Ctrl-C. Each but 0 comes with one line on
        stderr.
    """
    try:
        run = parse(kind, arguments, f"python -m train.{name}", description)
        _run(run, network, name)
        return 0
    except (ConfigError, data.DataError, store.StoreError) as error:
        message, status = f"error: {error}", 2
    except (FloatingPointError, OSError) as error:
        message, status = f"error: {error}", 1
    except KeyboardInterrupt as interrupt:
        message, status = f"interrupted{interrupt}", 130
    print(message, file=sys.stderr)
    return status


def _run(run: R, network: Network[R], name: str) -> None:
    store.check_out(run.output.out)
    dataset = data.load(run.data.dataset, run.data.data_dir)
    steps = number_of_steps(run, dataset)

    import jax  # From here on everything is in order.

    from jaxnets import layers
    from train import program
    from train.trainer import Trainer

    training, values = run.training, flags(run)
    classes, image_shape = len(dataset.classes), dataset.train_images.shape[1:]
    hyper = program.hyperparameters(values)
    net = network(run, hyper, classes)
    print(f"{dataset.name}: {dataset.description}\n\n{layers.summary(net, image_shape)}\n")

    functions = program.make_program(
        lambda hyper: network(run, hyper, classes),
        image_shape,
        training.optimizer,
        training.gradient,
    )
    train_data, test_data = program.on_device(dataset, run.data.preprocessing)
    trainer = Trainer(functions, hyper, training, train_data, test_data)
    with store.RunDirectory.create(run.output.out, f"{dataset.name}-{name}") as directory:
        print(f"run directory {directory.path}", flush=True)
        directory.write_config({"command": f"train.{name}", **values})
        records = []
        with report.Progress(steps, Console(stderr=True)) as progress:
            try:
                for record in trainer.train(steps, progress.advance):
                    records.append(record)
                    directory.append(record)
                    progress.evaluated(record)
            except KeyboardInterrupt as interrupt:
                raise KeyboardInterrupt(
                    f" after step {trainer.step}; the metrics so far are in {directory.path}"
                ) from interrupt
        config = {k: v for k, v in values.items() if k not in ("seed", "data_dir", "out")}
        device = jax.devices()[0]
        summary = {
            "versions": store.versions(),
            "device": {"platform": device.platform, "kind": device.device_kind},
            "dataset": store.describe(dataset),
            "seconds": records[-1]["seconds"],
            "steps_per_second": trainer.steps_per_second,
            "rows": [store.row(config, [training.seed], trainer.parameters, [records])],
        }
        directory.write_summary(summary)
        title = (
            f"{name} on {dataset.name}: {training.optimizer}, learning rate "
            f"{training.learning_rate:g}, batch size {training.batch_size}"
        )
        report.curves(records, directory.curves, title, dataset.description)
    print()
    Console().print(report.table(summary))
    print(f"\nrun directory {directory.path}\nfigure        {directory.curves}")


def number_of_steps(run: Run, dataset: data.Dataset) -> int:
    """Return how many steps a run takes; raise a `ConfigError` where the data do not allow it."""
    training, examples = run.training, len(dataset.train_labels)
    if training.batch_size > examples:
        raise ConfigError(
            f"--batch-size {training.batch_size}: must be at most {examples}, the number of "
            f"training examples of {dataset.name}"
        )
    if training.epochs is None:
        assert training.steps is not None  # One of the two is given in a complete run.
        return training.steps
    steps = training.epochs * (examples // training.batch_size)
    if steps >= 2**31:
        raise ConfigError(f"--epochs {training.epochs}: must make fewer than 2^31 steps")
    return steps
