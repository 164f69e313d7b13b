"""What the flags of a run come to on its data: which examples, how many steps."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from train.data import sources
from train.data.dataset import Dataset
from train.data.loading import load
from train.errors import ConfigError
from train.flags.config import ConvnetRun, Run
from train.flags.declaration import DATA_FILES, augmentations, data_path
from train.flags.suggestions import near
from train.flags.terminal import shortened


def load_for(run: Run, dataset: Dataset | None = None) -> Dataset:
    """Return the examples that a run asks for.

    Args:
        run: its flags.
        dataset: the data set; None to load the one that the flags name.

    Raises:
        ConfigError: there is no such data set, or it has fewer examples than asked.
    """
    which = run.data
    if dataset is None:
        _check_name(which.dataset, sources.names(which.data_dir))
        given = {name: getattr(which, name) for name in ("label", "missing", "test", "image_size")}
        given = {name: value for name, value in given.items() if value is not None}
        dataset = load(which.dataset, which.data_dir, **given)
    for split, wanted, labels in (
        ("train", which.train_examples, dataset.y_train),
        ("test", which.test_examples, dataset.y_test),
    ):
        if wanted is not None and wanted > len(labels):
            raise ConfigError(
                f"--{split}-examples {wanted}: must be at most {len(labels)}, the number of "
                f"{split} examples of {dataset.name}"
            )
    return first(dataset, which.train_examples, which.test_examples)


def _check_name(name: str, known: Sequence[str]) -> None:
    """Raise a `ConfigError` unless this is a data set that there is, or a path."""
    if data_path(name) is None and name not in known:
        said = f"--dataset {shortened(name)}: must be one of {', '.join(known)}"
        here = [path for path in (name, *(name + end for end in DATA_FILES)) if Path(path).exists()]
        if meant := f"; did you mean ./{here[0]}?" if here else near(name, known):
            raise ConfigError(said + meant)
        raise ConfigError(
            f"{said}, another that lies prepared in --data-dir, or the path of a "
            f"{', '.join(DATA_FILES)} file or of a folder of images, such as ./DIR"
        )


def check_inputs(run: Run, dataset: Dataset) -> None:
    """Raise a `ConfigError` where a run takes images, and the data are rows of a table."""
    if not dataset.schema.is_table:
        return
    if isinstance(run, ConvnetRun):
        raise ConfigError(
            f"--dataset {dataset.name}: is a table, and a convolutional network takes images; use "
            f"python -m train.mlp"
        )
    for flag, value, allowed in (
        ("augment", run.data.augment, not augmentations(run.data.augment)),
        ("preprocessing", run.data.preprocessing, run.data.preprocessing == "standardize"),
    ):
        if not allowed:
            raise ConfigError(
                f"--{flag} {value}: is for images, and {dataset.name} is a table; leave it out"
            )


def held_out(run: Run, dataset: Dataset) -> range:
    """Return the training images that a run validates on."""
    which = run.data
    return validation_part(len(dataset.y_train), which.validation, which.folds, which.fold)


def steps_per_epoch(run: Run, dataset: Dataset) -> int:
    """Return how many batches an epoch has; raise a `ConfigError` where the data allow none."""
    examples, held = len(dataset.y_train), len(held_out(run, dataset))
    if run.data.folds is not None and run.data.folds > examples:
        raise ConfigError(
            f"--folds {run.data.folds}: must be at most {examples}, the number of training "
            f"examples of {dataset.name}"
        )
    if not held and run.data.validation:
        raise ConfigError(
            f"--validation {run.data.validation:g}: holds out none of the {examples} training "
            f"examples of {dataset.name}; must be 0 for none, or at least {1 / examples:.2g}, a "
            f"number from 1 on among them"
        )
    if held >= examples:
        raise ConfigError(
            f"--validation {run.data.validation:g}: must be below {examples}, the number of "
            f"training examples of {dataset.name}"
        )
    if run.training.batch_size > examples - held:
        words = f", without the {held} to validate on" if held else ""
        raise ConfigError(
            f"--batch-size {run.training.batch_size}: must be at most {examples - held}, the "
            f"number of training examples of {dataset.name}{words}"
        )
    return (examples - held) // run.training.batch_size


def number_of_steps(run: Run, dataset: Dataset) -> int:
    """Return how many steps a run takes; raise a `ConfigError` where the data do not allow it."""
    check_inputs(run, dataset)
    training, per_epoch = run.training, steps_per_epoch(run, dataset)
    if training.epochs is None:
        assert training.steps is not None  # One of the two is given in a complete run.
        steps = training.steps
    else:
        steps = training.epochs * per_epoch
    if steps >= 2**31:
        raise ConfigError(f"--epochs {training.epochs}: must make fewer than 2^31 steps")
    if training.warmup_steps >= steps:
        raise ConfigError(
            f"--warmup-steps {training.warmup_steps}: must be below {steps}, the number of steps "
            f"of the run"
        )
    return steps


def idle_patience(runs: Sequence[Run], steps: Sequence[int]) -> Iterator[str]:
    """Yield a warning for each --patience that is too large to stop any of its runs.

    Args:
        runs: the runs.
        steps: how many steps each takes.
    """
    longest: dict[int, tuple[int, int]] = {}
    for run, last in zip(runs, steps, strict=True):
        if (patience := run.training.patience) is not None:
            longest[patience] = max(longest.get(patience, (0, 0)), (last, run.training.eval_every))
    for patience, (last, every) in longest.items():
        evaluations = math.ceil(last / every)  # After the first, before any step.
        if patience >= evaluations:
            yield (
                f"--patience {patience}: cannot stop a run of {last} steps with --eval-every "
                f"{every}; "
                + (f"below {evaluations} it can" if evaluations > 1 else "a smaller one helps")
            )


def check_batches(runs: Sequence[Run], devices: int) -> None:
    """Raise a `ConfigError` where a batch cannot be divided over the devices."""
    for size in (run.training.batch_size for run in runs):
        if size % devices:
            near = sorted({max(size // devices, 1) * devices, (size // devices + 1) * devices})
            raise ConfigError(
                f"--batch-size {size}: must be a multiple of the {devices} devices with "
                f"--shard batch, such as {' or '.join(map(str, near))}"
            )


def first(dataset: Dataset, train: int | None, test: int | None) -> Dataset:
    """Return the data set with its first examples alone; None for all of a split."""
    return dataclasses.replace(
        dataset,
        x_train=dataset.x_train[:train],
        y_train=dataset.y_train[:train],
        x_test=dataset.x_test[:test],
        y_test=dataset.y_test[:test],
    )


def validation_part(
    examples: int, validation: float | None, folds: int | None = None, fold: int | None = None
) -> range:
    """Return which training images are held out to validate on.

    Args:
        examples: how many training images there are.
        validation: a share of them below 1, or a number; the last ones are taken.
        folds: into how many parts of equal size they are divided instead; up to `folds` - 1 are
            left over at the end, and are never held out.
        fold: which of the parts is held out, from 0 on.

    Returns:
        Their indices.
    """
    if folds is not None and fold is not None:
        size = examples // folds
        return range(fold * size, (fold + 1) * size)
    assert validation is not None  # One of the two is given in a complete run.
    count = round(validation * examples) if validation < 1 else int(validation)
    return range(examples - count, examples)
