import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from train import device
from train.device import Fitting, explained, free_memory
from train.mlp import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("platform", ["foo", "cuda"])
def test_a_platform_that_is_not_there_is_one_line(tmp_path, platform):
    if platform == "cuda" and jax.devices()[0].platform == "gpu":
        pytest.skip("it is there")
    command = subprocess.run(
        [sys.executable, "-m", "train.mlp"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": platform},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert command.returncode == 2
    assert command.stderr.startswith(f"error: JAX_PLATFORMS={platform}: must be one of cpu")
    assert command.stderr.count("\n") == 1
    assert command.stdout == ""
    assert not list(tmp_path.iterdir())


def test_a_network_that_no_machine_holds_is_refused_before_it_is_tried(here, capsys):
    assert main(["--hidden", "1000000-1000000", "--out", "run"]) == 1
    error = capsys.readouterr().err
    # The first states alone: a million times a million weights, and Adam's two moments of each.
    needed = 3 * 4 * 1e12 / 1e9
    assert error.startswith("error: out of memory: ")
    assert needed <= float(error.split()[4]) <= 2.5 * needed
    assert "are free; take a smaller network or --batch-size, or fewer runs in a sweep" in error
    assert error.count("\n") == 1
    assert not list(here.iterdir())


SWEEP = ["--hidden", "30", "--steps", "1", "--seeds", "8", "--batch-size", "500"]


def results(path):
    rows = json.loads((path / "summary.json").read_text())["rows"]
    return [row["test_loss"]["final"]["values"] for row in rows]


def test_the_lockstep_that_is_suggested_fits_and_auto_takes_it(here, capsys, monkeypatch):
    made = []
    needed = device._needed
    monkeypatch.setattr(device, "_needed", lambda c: made.append(needed(c)) or made[-1])
    assert main([*SWEEP, "--lockstep", "8", "--out", "all"]) == 0
    free = int(0.9 * max(made))
    monkeypatch.setattr(device, "free_memory", lambda: free)
    capsys.readouterr()

    assert main([*SWEEP, "--lockstep", "8", "--out", "refused"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: out of memory: ")
    assert "with --lockstep 8, and " in error
    assert not (here / "refused").exists()
    lockstep = error.split("--lockstep ")[-1].removesuffix(" fits")
    assert 1 <= int(lockstep) < 8
    assert main([*SWEEP, "--lockstep", lockstep, "--out", "fits"]) == 0
    monkeypatch.setattr("train.spread.choose_lockstep", lambda *arguments: 8)
    assert main([*SWEEP, "--out", "auto"]) == 0
    for name in ("fits", "auto"):
        for a, b in zip(results(here / name), results(here / "all"), strict=True):
            assert a == pytest.approx(b, rel=2e-5)


def test_fitting_is_the_largest_that_fits(monkeypatch):
    """Each run at a time takes a megabyte, beside four."""

    def make(lockstep):
        size = (4 + lockstep) * 250_000
        return jax.jit(lambda x: jnp.full(size, x))

    monkeypatch.setattr(device, "free_memory", lambda: 10_500_000)
    assert Fitting(make, 6, choose=False)(jnp.float32(1)).nbytes == 10_000_000
    assert Fitting(make, 20, choose=True)(jnp.float32(1)).nbytes == 10_000_000
    with pytest.raises(MemoryError, match=r"0\.024 GB .* --lockstep 20, .* --lockstep 6 fits"):
        Fitting(make, 20, choose=False)(jnp.float32(1))
    monkeypatch.setattr(device, "free_memory", lambda: 4_500_000)
    for choose in (True, False):
        with pytest.raises(MemoryError, match="take a smaller network"):
            Fitting(make, 20, choose)(jnp.float32(1))


def test_other_shapes_are_compiled_anew(monkeypatch):
    lengths = []

    def make(lockstep):
        return jax.jit(lambda x: lengths.append(len(x)) or x + 1)

    double = Fitting(make, 1, choose=False)
    for length in (2, 2, 3, 2):
        assert double(jnp.zeros(length)).shape == (length,)
    assert lengths == [2, 3]


def test_out_of_memory_all_the_same_is_one_line():
    with pytest.raises(MemoryError) as caught, explained():
        jnp.zeros((1_000_000, 1_000_000)).block_until_ready()
    message = str(caught.value)
    assert message.startswith("out of memory: Out of memory allocating 4000000000000 bytes; take a")
    assert "\n" not in message


def test_another_error_of_jax_stays_what_it_is():
    with pytest.raises(RuntimeError, match="INTERNAL: other"), explained():
        raise RuntimeError("INTERNAL: other")


def test_the_memory_that_is_free_is_less_than_there_is():
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < free_memory() < total
