"""data.json: what each network saw of its data, by preprocessing and fold."""

import json
from pathlib import Path

import numpy as np
import pytest

from train.data import Dataset
from train.data.schema import Schema
from train.engine.input_pipeline import Affine
from train.errors import StoreError
from train.flags.config import MlpRun, replaced
from train.run_directory import data_file
from train.run_directory.reader import Results
from train.run_directory.stored_config import Config

SHAPE = (2, 1, 1)
X, Y = np.zeros((3, *SHAPE), np.uint8), np.zeros(3, np.int32)
DATA = Dataset("noise", "Noise.", X, Y, X, Y, ("a", "b"), "f", 16, Schema(SHAPE, "uint8", 16))
STORED = Results(Path("run"), Config("train.mlp", "f", {}, [], ()), [], {})


def affine(run):
    """Numbers that tell which run they are of, and that no decimal has."""
    place = (run.data.fold or 0) + 10 * (run.data.preprocessing == "unit")
    return Affine(np.full(SHAPE, 0.1 + place, np.float32), np.float32(1 / (3 + place)))


def run_of(preprocessing, fold):
    return replaced(MlpRun(), {"preprocessing": preprocessing, "fold": fold})


RUNS = [run_of(kind, fold) for kind in ("standardize", "unit") for fold in (0, 1, 2)]


def test_each_fold_and_preprocessing_comes_back_bit_for_bit():
    found = json.loads(json.dumps(data_file.content(DATA, [*RUNS, *RUNS], affine)))
    assert len(found["preprocessing"]) == 6
    parsed = data_file._parsed(STORED, found)
    for run in RUNS:
        shift, scale = parsed.affine(run)
        np.testing.assert_array_equal(shift, affine(run).shift)
        assert scale == affine(run).scale
        assert (shift.shape, scale.shape, shift.dtype) == (SHAPE, (), np.float32)
    with pytest.raises(StoreError, match="holds no --preprocessing unit of fold 3"):
        parsed.affine(run_of("unit", 3))
    assert parsed.dataset.classes == ("a", "b")
    assert (parsed.dataset.white, parsed.dataset.fingerprint) == (16, "f")
    assert len(parsed.dataset.y_train) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["preprocessing"][0].update(shift=[1.0]),
        lambda found: found["preprocessing"][0].update(shift=[1.0, True]),
        lambda found: found["preprocessing"][0].update(scale=1e39),
        lambda found: found["preprocessing"][0].update(fold=0.0),
        lambda found: found["preprocessing"][0].update(name=None),
        lambda found: found.update(classes=["a", 1]),
        lambda found: found.pop("preprocessing"),
    ],
)
def test_what_is_no_preprocessing_is_refused(change):
    found = json.loads(json.dumps(data_file.content(DATA, RUNS, affine)))
    change(found)
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=r"it |a preprocessing "):
        data_file._parsed(STORED, found)
