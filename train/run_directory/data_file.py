"""data.json of a run directory: how its data are read, and what its networks see of them.

With it new examples are classified where the data themselves are not at hand.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from train.data import Dataset
from train.data.schema import Schema
from train.errors import StoreError
from train.flags.config import Run
from train.run_directory import files
from train.run_directory.manifest import DATA, read_manifest, whole
from train.run_directory.reader import Results

if TYPE_CHECKING:  # It needs JAX, which is slow to import.
    from train.engine.input_pipeline import Affine


class Stored(NamedTuple):
    """What data.json says.

    Attributes:
        dataset: what is known of the data; it holds no examples.
        preprocessing: shift and scale by --preprocessing and fold, see `input_pipeline.Affine`.
    """

    dataset: Dataset
    preprocessing: dict[tuple[str, int | None], tuple[np.ndarray, np.ndarray]]

    def affine(self, run: Run) -> "Affine":
        """Return the preprocessing of a run; raise a `StoreError` where it is not there."""
        from train.engine.input_pipeline import Affine

        key = run.data.preprocessing, run.data.fold
        if key not in self.preprocessing:
            raise StoreError(f"{DATA} holds no --preprocessing {key[0]} of fold {key[1]}")
        return Affine(*self.preprocessing[key])


def content(
    dataset: Dataset, runs: Iterable[Run], preprocessing: "Callable[[Run], Affine]"
) -> dict[str, Any]:
    """Return what data.json is to say.

    Args:
        dataset: the data.
        runs: those of the sweep.
        preprocessing: returns that of a run.
    """
    several = {(run.data.preprocessing, run.data.fold): run for run in runs}
    found = {key: preprocessing(run) for key, run in several.items()}
    return {
        "schema": dataset.schema.to_json(),
        "classes": list(dataset.classes),
        "preprocessing": [
            {
                "name": name,
                "fold": fold,
                "shift": _numbers(affine.shift),
                "scale": _numbers(affine.scale),
            }
            for (name, fold), affine in found.items()
        ],
    }


def _numbers(array: np.ndarray) -> Any:
    """Return float32 as JSON has it: the shortest decimals that mean the same."""
    flat = [float(str(value)) for value in np.asarray(array, np.float32).ravel()]
    return flat if np.ndim(array) else flat[0]


def read(stored: Results) -> Stored | None:
    """Return what data.json of a run directory says; None of a run of an earlier version.

    Raises:
        StoreError: it is damaged.
    """
    path, manifest = stored.path / DATA, read_manifest(stored.path)
    if not path.is_file() and (manifest is None or DATA not in manifest.digests):
        return None
    try:
        if manifest is not None and not whole(stored.path, manifest, DATA):
            raise ValueError(f"it does not have the checksum in {files.MANIFEST}")
        return _parsed(stored, files.parsed_json(path.read_bytes()))
    except (ValueError, OSError) as error:
        raise StoreError(
            f"{path} is damaged: {error}; put it back from a copy, or train again with another "
            f"--out"
        ) from error


def _parsed(stored: Results, found: dict[str, Any]) -> Stored:
    schema, classes = Schema.from_json(found.get("schema")), found.get("classes")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("it names no classes")
    rows = found.get("preprocessing")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it has no preprocessing")
    preprocessing = {}
    for row in rows:
        name, fold = row.get("name"), row.get("fold")
        if not isinstance(name, str) or not (fold is None or type(fold) is int):
            raise ValueError("a preprocessing has no name")
        shape = schema.shape if schema.is_table else ()
        preprocessing[name, fold] = (
            _array(row.get("shift"), schema.shape),
            _array(row.get("scale"), shape),
        )
    if schema.labels and len(schema.labels) != len(classes):
        raise ValueError("it has other labels than classes")
    summary = stored.summary["dataset"] if stored.summary else {}
    x, y = np.empty((0, *schema.shape), schema.dtype), np.empty(0, np.int32)
    dataset = Dataset(
        summary.get("name", ""), summary.get("description", ""), x, y, x, y, tuple(classes),
        stored.config.fingerprint, schema.white, schema,
    )  # fmt: skip
    return Stored(dataset, preprocessing)


def _array(found: Any, shape: tuple[int, ...]) -> np.ndarray:
    several = found if isinstance(found, list) else [found]
    if not all(type(value) in (int, float) for value in several) or len(several) != np.prod(shape):
        raise ValueError("a preprocessing has other numbers than inputs")
    array = np.array(several, np.float32).reshape(shape)
    if not np.isfinite(array).all():
        raise ValueError("a preprocessing is not finite")
    return array
