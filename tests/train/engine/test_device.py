import contextlib
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

from train import convnet, mlp
from train.engine import assembly, memory
from train.engine.memory import Fitting, explained, free_memory
from train.flags.config import Training
from train.mlp import main

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
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


@pytest.fixture
def compiled(monkeypatch):
    """How many programs were compiled for runs."""
    found = []
    compile_it = Fitting.compile
    monkeypatch.setattr(
        Fitting, "compile", lambda *arguments: found.append(1) or compile_it(*arguments)
    )
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "arguments", "gigabytes"),
    [
        # Parameters, gradient, and two moments of Adam; 99 weights of 1e6 x 1e6.
        (mlp.main, "--hidden 100x1000000", 4 * 4 * 99e12 / 1e9),
        (mlp.main, "--hidden 1000000 --optimizer sgd --dry-run", 2 * 4 * 76e6 / 1e9),
        (convnet.main, "--architecture convnet --optimizer momentum", 3 * 4 * 9.2e6 / 1e9),
        # The best parameters are there once more.
        (mlp.main, "--hidden 1000000 --optimizer sgd --keep best", 3 * 4 * 76e6 / 1e9),
        (mlp.main, "--hidden 1000000 --optimizer sgd --patience 3", 3 * 4 * 76e6 / 1e9),
        # The second of two groups; and the sum over its runs, of a gradient at a time.
        (mlp.main, "--hidden 4 3000-3000 --optimizer sgd", 2 * 4 * 9.2e6 / 1e9),
        (
            mlp.main,
            "--hidden 300-300 --optimizer sgd --steps 1 --seeds 200",
            201 * 4 * 0.1134e6 / 1e9,
        ),
        (mlp.main, "--hidden 4 --batch-size 1200 --eval-every 500 --seeds 20", 20 * 2.4e6 / 1e9),
    ],
)
def test_what_cannot_fit_is_refused_before_anything_is_compiled(
    here, capsys, monkeypatch, compiled, command, arguments, gigabytes
):
    monkeypatch.setattr(memory, "free_memory", lambda: 30_000_000)
    assert command([*arguments.split(), *("--out", "run")]) == 1
    output, error = capsys.readouterr()
    assert float(error.split()[4]) == pytest.approx(gigabytes, rel=0.03)
    assert " and 0.03 GB are free; " in error
    assert error.count("\n") == 1
    assert not compiled
    assert output == ""
    assert not list(here.iterdir())


def test_what_each_run_of_a_sweep_takes_is_said(here, capsys, monkeypatch):
    """One fits; on a CPU the runs of all devices are in one memory."""
    monkeypatch.setattr(memory, "free_memory", lambda: 30_000_000)
    arguments = ["--hidden", "300-300", "--optimizer", "sgd", "--steps", "1", "--out", "run"]
    assert main([*arguments, "--seeds", "200"]) == 1
    error = capsys.readouterr().err
    parameters = 65 * 300 + 301 * 300 + 301 * 10
    each = float(error.split("(")[1].split(" GB for each run)")[0])
    assert each == pytest.approx((parameters * 4 + 200 * 4) / 1e9, rel=0.01)
    monkeypatch.setattr(assembly.Assembly, "trainer", lambda *arguments: pytest.skip("it fits"))
    with pytest.raises(pytest.skip.Exception):
        main([*arguments, "--seeds", "60"])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("outside", [False, True])
def test_what_a_container_leaves(tmp_path, version, outside):
    """Of all groups around the process; read from outside of the container, or from inside."""
    mounted, own = tmp_path / "cgroup", tmp_path / "own"
    names = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"]
    if version == 2:
        names = ["memory.max", "memory.current", "inactive_file"]
    limit, used, cached = names
    root = mounted / "memory" if version == 1 else mounted
    groups = {"": (9000, 500, 100), "one": (5000, 400, 50), "one/two": ("max", 300, 20)}
    for name, (largest, taken, files) in groups.items() if outside else list(groups.items())[:1]:
        (root / name).mkdir(parents=True)
        (root / name / limit).write_text(f"{largest}\n")
        (root / name / used).write_text(f"{taken}\n")
        (root / name / "memory.stat").write_text(f"cache 7\n{cached} {files}\n")
    own.write_text("3:cpuset:/one\n4:memory:/one/two\n" if version == 1 else "0::/one/two\n")
    expected = [5000 - 350, 9000 - 400] if outside else [9000 - 400]
    assert list(memory._left_by_containers(mounted, own)) == expected


def test_no_container(tmp_path):
    assert not list(memory._left_by_containers(tmp_path, tmp_path / "absent"))


@pytest.mark.parametrize(("left", "free"), [([5000, 7000], 5000), ([-3], 0)])
def test_memory_is_free_where_every_container_leaves_it(monkeypatch, left, free):
    device = type("Device", (), {"memory_stats": lambda self: None})()
    monkeypatch.setattr(memory.jax, "local_devices", lambda: [device])
    monkeypatch.setattr(memory, "_left_by_containers", lambda: left)
    assert free_memory() == free


def test_a_call_allocates_its_results_and_room_to_compute():
    """Not what takes the place of an argument."""
    sizes = types.SimpleNamespace(
        output_size_in_bytes=100, alias_size_in_bytes=30, temp_size_in_bytes=7
    )
    assert memory._needed(types.SimpleNamespace(memory_analysis=lambda: sizes)) == 77
    assert memory._needed(types.SimpleNamespace(memory_analysis=lambda: None)) == 0


def test_what_is_in_use_on_an_accelerator_is_not_free(monkeypatch):
    stats = {"bytes_limit": 9000, "bytes_in_use": 2500}
    device = type("Device", (), {"memory_stats": lambda self: stats})()
    monkeypatch.setattr(memory.jax, "local_devices", lambda: [device, None])  # All are alike.
    assert free_memory() == 6500


class Kept(NamedTuple):
    """What a run keeps from step to step: 60, 4, and 80 bytes."""

    params: Any = jax.ShapeDtypeStruct((3, 5), jnp.float32)
    statistics: Any = jax.ShapeDtypeStruct((2,), jnp.bfloat16)
    moments: Any = jax.ShapeDtypeStruct((20,), jnp.float32)


@pytest.mark.parametrize(
    ("flags", "last", "expected"),
    [
        ({"eval_every": 10}, 100, 144 + 4 * 10 * 6),
        ({"eval_every": 10}, 3, 144 + 4 * 3 * 6),
        ({"eval_every": 1000}, 2000, 144 + 4 * 500 * 6),  # Of the longest segment.
        ({"eval_every": 10, "keep": "best"}, 100, 144 + 64 + 4 * 10 * 6),
    ],
)
def test_a_run_holds_its_state_the_best_parameters_and_its_next_examples(flags, last, expected):
    assert memory.run_bytes(Kept(), Training(batch_size=6, **flags), last) == expected


def test_runs_fit_where_they_need_all_that_is_free(monkeypatch):
    """Each run takes 3 MB, and one gradient 1 MB."""
    params, several = jnp.zeros(250_000), types.SimpleNamespace(rows_together=5)
    monkeypatch.setattr(memory, "free_memory", lambda: 16_000_000)
    memory.check_memory(3_000_000, params, several)
    monkeypatch.setattr(memory, "free_memory", lambda: 15_999_999)
    needed = r"^out of memory: 0\.016 GB are needed \(0\.003 GB for each run\), and 0\.016 GB are"
    with pytest.raises(MemoryError, match=needed):
        memory.check_memory(3_000_000, params, several)
    one = types.SimpleNamespace(rows_together=1)
    with pytest.raises(MemoryError, match=r"^out of memory: 0\.021 GB are needed, and 0\.016 GB"):
        memory.check_memory(20_000_000, params, one)


def test_several_processes_compile_in_their_main_thread(monkeypatch):
    """They stop together where the next segment ends."""
    aside = []
    monkeypatch.setattr(memory.signals, "aside", lambda work: aside.append(1) or work())
    lowered = types.SimpleNamespace(compile=lambda: "compiled")
    for processes, calls in ((1, 1), (2, 0)):
        aside.clear()
        monkeypatch.setattr(memory.jax, "process_count", lambda processes=processes: processes)
        assert memory._compiled(lowered) == "compiled"
        assert len(aside) == calls


SWEEP = ["--hidden", "30", "--steps", "1", "--seeds", "8", "--batch-size", "500"]


def results(path):
    rows = json.loads((path / "summary.json").read_text())["rows"]
    return [row["test_loss"]["final"]["values"] for row in rows]


@pytest.mark.slow
def test_the_lockstep_that_is_suggested_fits_and_auto_takes_it(here, capsys, monkeypatch):
    made = []
    needed = memory._needed
    monkeypatch.setattr(memory, "_needed", lambda c: made.append(needed(c)) or made[-1])
    assert main([*SWEEP, "--lockstep", "8", "--out", "all"]) == 0
    free = int(0.9 * max(made))
    monkeypatch.setattr(memory, "free_memory", lambda: free)
    capsys.readouterr()

    assert main([*SWEEP, "--lockstep", "8", "--out", "refused"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: out of memory: ")
    assert "with --lockstep 8, and " in error
    assert not (here / "refused").exists()
    lockstep = error.split("--lockstep ")[-1].removesuffix(" fits")
    assert 1 <= int(lockstep) < 8
    assert main([*SWEEP, "--lockstep", lockstep, "--out", "fits"]) == 0
    monkeypatch.setattr("train.engine.sharding.choose_lockstep", lambda *arguments: 8)
    assert main([*SWEEP, "--out", "auto"]) == 0
    for name in ("fits", "auto"):
        for a, b in zip(results(here / name), results(here / "all"), strict=True):
            assert a == pytest.approx(b, rel=2e-5)


def test_fitting_is_the_largest_that_fits(monkeypatch):
    """Each run at a time takes a megabyte, beside four."""

    def make(lockstep):
        size = (4 + lockstep) * 250_000
        return jax.jit(lambda x: jnp.full(size, x))

    monkeypatch.setattr(memory, "free_memory", lambda: 10_500_000)
    assert Fitting(make, 6, choose=False)(jnp.float32(1)).nbytes == 10_000_000
    assert Fitting(make, 20, choose=True)(jnp.float32(1)).nbytes == 10_000_000
    with pytest.raises(
        MemoryError, match=r"0\.024 GB .* --lockstep 20, and 0\.0105 GB are .* 6 fits"
    ):
        Fitting(make, 20, choose=False)(jnp.float32(1))
    monkeypatch.setattr(memory, "free_memory", lambda: 4_500_000)
    made = []
    for choose in (True, False):
        with pytest.raises(MemoryError, match="take a smaller network"):
            Fitting(lambda n: made.append(n) or make(n), 20, choose)(jnp.float32(1))
    assert made == [20, 1] * 2  # Where one does not fit, no other number is tried.
    monkeypatch.setattr(memory, "free_memory", lambda: 5_500_000)
    with pytest.raises(MemoryError, match=r"with --lockstep 2, .*; --lockstep 1 fits"):
        Fitting(make, 2, choose=False)(jnp.float32(1))
    monkeypatch.setattr(memory, "free_memory", lambda: 5_000_000)  # No byte is left over.
    assert Fitting(make, 20, choose=True)(jnp.float32(1)).nbytes == 5_000_000
    assert Fitting(make, 1, choose=False)(jnp.float32(1)).nbytes == 5_000_000


def test_one_run_at_a_time_is_compiled_once(monkeypatch):
    made = []
    monkeypatch.setattr(memory, "free_memory", lambda: 3)
    one = Fitting(lambda n: made.append(n) or jax.jit(lambda x: x + 1), 1, choose=True)
    with pytest.raises(MemoryError, match=r"GB are needed, and .* take a smaller network"):
        one(jnp.float32(1))
    assert made == [1]


def test_what_fitted_before_is_asked_again_where_another_training_begins(monkeypatch):
    made = []
    one = Fitting(lambda n: made.append(n) or jax.jit(lambda x: x + 1), 1, choose=True)
    for free, fits in ((100, True), (100, True), (3, False)):
        monkeypatch.setattr(memory, "free_memory", lambda free=free: free)
        one.begin_anew(contextlib.nullcontext)
        assert one.bytes == 0
        if fits:
            one(jnp.float32(1))
            assert one.bytes == 4
            assert made == [1]
        else:
            with pytest.raises(MemoryError):
                one(jnp.float32(1))


def test_other_shapes_are_compiled_anew(monkeypatch):
    lengths = []

    def make(lockstep):
        return jax.jit(lambda x: lengths.append(len(x)) or x + 1)

    double = Fitting(make, 1, choose=False)
    assert double.bytes == 0
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
