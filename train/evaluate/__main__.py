"""Look at a trained network: its mistakes by class, and what it makes of other images.

python -m train.evaluate runs/a
python -m train.evaluate runs/a --predict photo.jpg
python -m train.evaluate runs/sweep --run 3 --split train
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import tyro

from train.data import Dataset
from train.data.schema import Read
from train.data.split import load_for
from train.errors import DataError, StoreError
from train.evaluate import confusion_matrix, predictions
from train.processes.exit_status import answer
from train.report import figures
from train.run_directory import data_file, files, reader, rebuilt, summary
from train.run_directory.reader import Results

if TYPE_CHECKING:
    from train.run_directory.trained_network import Trained

MOST_MISTAKES = 20


class Arguments(NamedTuple):
    """What is asked for."""

    directory: Annotated[
        tyro.conf.Positional[Path],
        tyro.conf.arg(metavar="RUN_DIR", help="The directory of a finished run or sweep."),
    ]
    split: Annotated[
        Literal["test", "validation", "train"],
        tyro.conf.arg(help="The examples to classify; those of training as they are stored."),
    ] = "test"
    run: Annotated[
        int | None,
        tyro.conf.arg(
            metavar="INDEX",
            help="Which run of a sweep, as config.json counts them from 0.",
            help_behavior_hint="(default: the first of the best configuration)",
        ),
    ] = None
    predict: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="PATH",
            help="Classify other examples instead: an image file or a folder of them, which are "
            "brought to the size and colours of the data; a .npy or .npz file of examples as in "
            "the data; a .csv or .parquet file with the columns of the data. The data themselves "
            "are not needed.",
            help_behavior_hint="(default: not used)",
        ),
    ] = None
    network: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="FILE.py:FUNCTION",
            help="Where the code of the network of a run of train.custom is: it is run only where "
            "you name it, and as it was in training.",
            help_behavior_hint="(default: a network of this project)",
        ),
    ] = None
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="DIR",
            help="The folder for mistakes.png and evaluation.json, or predictions.json and "
            "predictions.csv; those there are replaced.",
            help_behavior_hint="(default: RUN_DIR)",
        ),
    ] = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status, see `exit_status.answer`."""
    return answer(Arguments, _evaluate, arguments, "python -m train.evaluate", __doc__)


def _evaluate(asked: Arguments) -> None:
    out = asked.out or asked.directory
    stored = reader.read(asked.directory)
    if stored.summary is None:
        raise StoreError(f"{stored.path} is not finished: it holds no summary.json")
    if not out.is_dir():
        raise StoreError(f"--out {out}: is not a folder")
    index, why = _chosen(stored, asked.run)
    made = rebuilt.made(stored, asked.network)
    run = rebuilt.run(stored, index, made.kind)
    known = None if asked.predict is None else data_file.read(stored)
    dataset = load_for(run) if known is None else known.dataset
    if dataset.fingerprint != stored.config.fingerprint:
        raise StoreError(
            f"{stored.path} was trained on another {dataset.name}, with fingerprint "
            f"{stored.config.fingerprint}, not {dataset.fingerprint}: set TFDS_DATA_DIR to the "
            f"folder of those data"
        )
    given = None if asked.predict is None else _read(asked.predict, dataset)

    # They need JAX, which is slow to import; from here on all is in order, but perhaps the device.
    from train.engine.devices import devices
    from train.engine.memory import explained
    from train.run_directory import trained_network

    devices()
    of = {
        "run_directory": str(stored.path),
        "run": index,
        "flags": stored.runs[index],
        "dataset": stored.summary["dataset"] if known else summary.describe(dataset),
    }
    with explained():
        affine = known and known.affine(run)
        found = trained_network.load(stored, index, made.network, run, dataset, affine)
        print(f"{stored.path}: {why}")
        if given is None:
            _classify(found, asked.split, dataset, out, of, _recorded(stored, index, asked.split))
        else:
            print(f"{asked.predict}: {given.done}\n")
            shares = trained_network.probabilities(found.logits(found.examples(given.inputs)))
            of |= {"file": str(asked.predict), "done": given.done}
            predictions.write(shares, dataset, given.names, out, of)


def _read(path: Path, dataset: Dataset) -> Read:
    """Read the examples to predict."""
    try:
        return dataset.schema.read(path)
    except DataError as error:
        raise DataError(f"--predict {error}") from error


def _chosen(stored: Results, asked: int | None) -> tuple[int, str]:
    """The run to look at: its index, and why it is this one."""
    assert stored.summary is not None
    if asked is None:
        row = stored.summary["rows"][0]
        indices = zip(stored.indices(row["config"]), row["diverged"], strict=True)
        index = next((index for index, step in indices if step is None), None)
        if index is None:
            raise StoreError(f"{stored.path}: all runs diverged; there is nothing to look at")
    elif asked in range(len(stored.runs)):
        index = asked
        row, position = _row(stored, index)
        if row["diverged"][position] is not None:
            raise StoreError(f"--run {asked}: diverged; leave out --run for the best")
    else:
        last = len(stored.runs) - 1
        allowed = f"from 0 to {last} here" if last else "0, the only run here"
        raise StoreError(f"--run {asked}: must be {allowed}")
    if len(stored.runs) == 1:
        return index, "a single run"
    differing = [
        f"{name.replace('_', '-')} {value}"
        for name, value in stored.runs[index].items()
        if value is not None and any(run[name] != value for run in stored.runs)
    ]
    words = f"run {index} of {len(stored.runs)} ({', '.join(differing)})"
    return index, words if asked is not None else f"{words}, the first of the best configuration"


def _row(stored: Results, index: int) -> tuple[dict[str, Any], int]:
    """The row of summary.json that a run is part of, and its position in it."""
    assert stored.summary is not None
    config = summary.configuration(stored.runs[index])
    (row,) = (row for row in stored.summary["rows"] if row["config"] == config)
    return row, stored.indices(config).index(index)


def _recorded(stored: Results, index: int, split: str) -> float | None:
    """The accuracy that training ended with; of the training set it tells that of the batches."""
    row, position = _row(stored, index)
    if split == "train" or f"{split}_accuracy" not in row:
        return None
    recorded: float = row[f"{split}_accuracy"]["final"]["values"][position]
    return recorded


# --- the mistakes --------------------------------------------------------------------------------


def _classify(
    network: "Trained",
    split: str,
    dataset: Dataset,
    out: Path,
    of: dict[str, Any],
    recorded: float | None,
) -> None:
    """Print and write what the network gets right and wrong of a set of examples."""
    from train.run_directory.trained_network import losses, probabilities

    examples = getattr(network.sets, split)
    if examples is None:
        raise StoreError(f"--split {split}: this run held nothing out; take test or train")
    labels, logits = np.asarray(examples.y), network.logits(examples)
    predicted, loss = logits.argmax(-1), losses(logits, labels)
    matrix = confusion_matrix.counted(labels, predicted, len(dataset.classes))
    accuracy = (right := int(np.trace(matrix))) / len(labels)
    print(
        f"{dataset.name}, {split} set: accuracy {accuracy:.4f} ({right} of {len(labels)}), "
        f"loss {loss.mean():.4f} nats"
    )
    if recorded is not None and recorded != accuracy:
        print(f"summary.json says {recorded:.4f}: this device rounds differently from the other")
    classes = confusion_matrix.per_class(labels, predicted, dataset.classes)
    average = confusion_matrix.macro(labels, predicted, len(dataset.classes))
    confusion_matrix.show(matrix, classes, average)

    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-loss[wrong], kind="stable")][:MOST_MISTAKES]
    found = zip(worst, probabilities(logits[worst]), strict=True)
    mistakes = [
        _mistake(int(i), share, labels[i], predicted[i], loss[i], dataset.classes)
        for i, share in found
    ]
    title = f"{len(mistakes)} worst of {len(wrong)} mistakes on the {split} set of {dataset.name}"
    if figures.is_picture(dataset.schema.shape):
        _draw(mistakes, np.asarray(examples.x[worst]), dataset.white, out / "mistakes.png", title)
    else:
        (out / "mistakes.png").unlink(missing_ok=True)  # It would be that of another evaluation.
        print()
    evaluation = {
        **of,
        "split": split,
        "examples": len(labels),
        "accuracy": accuracy,
        "loss": float(loss.mean()),
        "classes": classes,
        "macro_average": average,
        "confusion": matrix.tolist(),
        "mistakes": mistakes,
    }
    files.write_json(out / "evaluation.json", evaluation)
    print(f"numbers  {out / 'evaluation.json'}")


def _mistake(
    index: int, share: np.ndarray, label: int, predicted: int, loss: float, classes: Sequence[str]
) -> dict[str, Any]:
    """Return what evaluation.json says of an example that was classified wrong."""
    return {
        "index": index,
        "true": classes[label],
        "true_probability": float(share[label]),
        "predicted": classes[predicted],
        "probability": float(share[predicted]),
        "loss": float(loss),
    }


def _draw(
    mistakes: Sequence[dict[str, Any]], images: np.ndarray, white: int, path: Path, title: str
) -> None:
    """Draw the images with what they are and what they were taken for."""
    drawn = [
        figures.Mistake(
            image,
            f"true {m['true']}, {m['true_probability']:.1%}\n"
            f"predicted {m['predicted']}, {m['probability']:.1%}",
        )
        for image, m in zip(images, mistakes, strict=True)
    ]
    print()
    if drawn:
        figures.mistakes(drawn, white, path, title)
        print(f"mistakes {path}")
    else:
        path.unlink(missing_ok=True)  # It would be that of another evaluation.
        print("mistakes none")


if __name__ == "__main__":
    sys.exit(main())
