"""How much of the project a new flag, metric or data set touches, in a copy of it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# By file, what each is written behind; see .github/CONTRIBUTING.md.
BETA2 = {
    "train/flags/config.py": [
        (
            "    weight_decay: Annotated[",
            '    beta2: Annotated[float | None, _given("FLOAT [FLOAT ...]", "0.999"), '
            'Flag(BELOW_1, traced=True, law="log from 1", needs=("optimizer", {"adam": 0.999}))'
            "] = None\n",
        ),
        (
            "        weight_decay: Decoupled",
            "        beta2: Decay of the mean of squares of --optimizer adam, in [0, 1).\n",
        ),
    ],
    "train/engine/optimizers.py": [
        ('    "adam": lambda', '    "adam": lambda h: optax.adam(h.learning_rate, b2=h.beta2),\n'),
        ('    "adam": lambda h: optax.adam(h.learning_rate),\n', None),
    ],
}
TOP5 = {
    "train/metrics.py": [
        (
            '    "accuracy": Metric(',
            '    "top5": Metric("top 5", "top 5 (fraction)", max, 1.0, ".4f"),\n',
        )
    ],
    "train/engine/program.py": [
        (
            '    "accuracy": lambda',
            '    "top5": lambda logits, labels: jnp.sum('
            "jnp.any(jax.lax.top_k(logits, 5)[1] == labels[:, None], -1), dtype=jnp.int32),\n",
        )
    ],
}
FASHION = {
    "train/data/sources.py": [
        (
            '    "cifar10": Source(',
            '    "fashion_mnist": Source("tfds", (28, 28, 1), 255, archives="mnist"),\n',
        )
    ]
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project in which all three were added."""
    copy = tmp_path_factory.mktemp("project")
    for package in ("jaxnets", "train"):
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for addition in (BETA2, TOP5, FASHION):
        for file, edits in addition.items():
            text = (copy / file).read_text(encoding="utf-8")
            for place, line in edits:
                assert text.count(place) == 1, (file, place)
                text = text.replace(place, "" if line is None else line + place)
            (copy / file).write_text(text, encoding="utf-8")
    return copy


def run(project, *words):
    return subprocess.run(
        [sys.executable, *words],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_flag_touches_two_files_and_a_metric_two(project):
    assert len(BETA2) == len(TOP5) == 2
    words = ["-m", "train.mlp", "--steps", "6", "--eval-every", "3", "--lockstep", "2"]
    done = run(project, *words, "--beta2", "0.9", "0.999", "--test-curve", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "best  beta2 0.9" in done.stdout
    assert "top5 " in done.stderr
    rows = json.loads((project / "run" / "summary.json").read_text())["rows"]
    assert {row["config"]["beta2"] for row in rows} == {0.9, 0.999}
    assert rows[0]["test_loss"]["final"]["mean"] != rows[1]["test_loss"]["final"]["mean"]
    for row in rows:
        found, accuracy = (row[f"test_{name}"]["final"]["mean"] for name in ("top5", "accuracy"))
        assert 0.5 < found < 1
        assert found > accuracy
    single = run(project, "-m", "train.mlp", "--steps", "3", "--out", "single")
    assert "top 5" in single.stdout  # A row of many shows what decides alone.
    refused = run(project, "-m", "train.mlp", "--optimizer", "sgd", "--beta2", "0.9")
    assert refused.stderr == ("error: --beta2 0.9: is used with --optimizer adam alone; got sgd\n")
    assert run(project, "-m", "train.compare", "run").returncode == 0


@pytest.mark.slow
def test_a_data_set_touches_one_file(project):
    assert len(FASHION) == 1
    missing = run(project, "-m", "train.data", "show", "fashion_mnist", "--data-dir", ".")
    assert "-labels-idx1-ubyte.gz from http://fashion-mnist." in missing.stderr
    program = """
import numpy as np, tensorflow_datasets as tfds
from pathlib import Path
from train.data.prepare import _write
images, labels = np.arange(12 * 784, dtype="uint8").reshape(12, 28, 28, 1), np.arange(12) % 10
splits = {"train": (images[:8], labels[:8]), "test": (images[8:], labels[8:])}
_write(tfds.builder_cls("fashion_mnist"), splits, None, Path("data"))
"""
    done = run(project, "-c", program)
    assert done.returncode == 0, done.stderr
    shown = run(project, "-m", "train.data", "show", "fashion_mnist", "--data-dir", "data")
    assert "train        uint8 [8, 28, 28, 1]" in shown.stdout, shown.stderr
    assert "T-shirt/top" in shown.stdout
    near = run(project, "-m", "train.mlp", "--dataset", "fashionmnist")
    assert near.stderr.endswith("did you mean fashion_mnist?\n")
