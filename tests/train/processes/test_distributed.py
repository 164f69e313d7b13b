"""Two processes of two virtual devices each, over loopback."""

import atexit
import json
import multiprocessing
import multiprocessing.forkserver
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import pytest

from train.mlp import main
from train.processes import cluster
from train.run_directory import checkpoint_manager

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]

# Three runs, which do not fill four devices; all that has a state.
SWEEP = [
    *("--hidden", "6", "--norm", "batch", "--dropout", "0.3", "--optimizer", "momentum"),
    *("--learning-rate", "0.003", "0.03", "1e30", "--steps", "40", "60"),
    *("--eval-every", "10", "--batch-size", "64"),
]
# Where there is a GPU too: two processes cannot have it all.
CPU = {"jax_platforms": "cpu", "jax_num_cpu_devices": 2}
# Its processes begin where a command is after its imports, which saves two seconds each.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["optax", "orbax.checkpoint", "sklearn.datasets", __name__])


@pytest.fixture(scope="module", autouse=True)
def begun():
    """The process that the others are forked from; what loads XLA says how much XLA writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "4")
        multiprocessing.forkserver.ensure_running()


def run(words, environment, pause, join_seconds, devices, output):
    """Run the command with checkpoints after each segment, and a pause for what a test does."""
    for stream, path in enumerate(output, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    os.environ.update(environment)
    for name, value in (CPU | {"jax_num_cpu_devices": devices}).items():
        jax.config.update(name, value)
    offer = checkpoint_manager.Saver.offer

    def offer_and_pause(*arguments, **named):
        offer(*arguments, **named)
        time.sleep(pause)

    checkpoint_manager.Saver.offer = offer_and_pause
    checkpoint_manager.SHARE, cluster.JOIN_SECONDS = 1e9, join_seconds
    try:
        sys.exit(main(words))
    finally:
        atexit._run_exitfuncs()  # A forked process would not.


class Process:
    """A command in a process of its own, as `subprocess.Popen` has it."""

    def __init__(self, words, environment=None, pause=0.0, join_seconds=40, devices=2):
        self.folder = tempfile.TemporaryDirectory()
        self.output = [f"{self.folder.name}/{name}" for name in ("stdout", "stderr")]
        given = words, environment or {}, pause, join_seconds, devices, self.output
        self.process = FORKS.Process(target=run, args=given)
        self.process.start()

    def poll(self):
        return self.process.exitcode

    def send_signal(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        self.process.kill()

    def forget(self):
        self.kill()
        self.folder.cleanup()

    def ended(self, seconds):
        """The exit status, standard output and standard error."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"it runs for longer than {seconds} s"
        return self.process.exitcode, *(Path(path).read_text() for path in self.output)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def start(arguments, count=2, which=None, pause=0, join_seconds=40, port=None):
    """Start the processes `which` of `count`, all by default."""
    port = port or free_port()
    address = ("--coordinator", f"127.0.0.1:{port}", "--processes", str(count))
    return [
        Process(
            ["--distributed", *arguments, *address, "--process-id", str(number)],
            pause=pause,
            join_seconds=join_seconds,
        )
        for number in which or range(count)
    ]


def ended(several, seconds=200):
    """The exit status, standard output and standard error of each."""
    try:
        return [process.ended(seconds) for process in several]
    finally:
        for process in several:
            process.forget()


def records(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    for record in found:
        del record["seconds"]
    return found


def assert_same_runs(folder, expected):
    """The same evaluations of the same runs, to the rounding of float32."""
    found, others = records(folder), records(expected)
    assert len(found) == len(others)
    for record, other in zip(found, others, strict=True):
        assert record.keys() == other.keys()
        for name, value in record.items():
            expected_value = other[name]
            assert value is expected_value is None or value == pytest.approx(
                expected_value, rel=1e-4, abs=1e-5
            )
    rows, other_rows = (
        json.loads((path / "summary.json").read_text())["rows"] for path in (folder, expected)
    )
    assert [row["config"] for row in rows] == [row["config"] for row in other_rows]
    assert [row["diverged"] for row in rows] == [row["diverged"] for row in other_rows]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The sweep by one process on one device."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    ((status, _, error),) = ended([Process([*SWEEP, "--out", str(folder)], devices=1)])
    assert status == 0, error
    return folder


def wait_for(condition, seconds=100):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def checkpoints(folder):
    return list((folder / "checkpoints").glob("group-*"))


def test_runs_over_processes_are_those_of_one(tmp_path, straight):
    folder = tmp_path / "run"
    first, second = ended(start([*SWEEP, "--out", str(folder)]))
    assert first[0] == second[0] == 0, (first[2], second[2])
    assert "Gloo" not in first[1]
    assert "test" in first[1]
    assert second[1:] == ("", "")  # Process 0 alone prints.
    assert_same_runs(folder, straight)
    assert (folder / "curves.png").exists()


def test_a_batch_over_processes_is_that_of_one(tmp_path):
    """Batch norm among it: over the whole batch."""
    arguments = [
        *("--hidden", "6", "--norm", "batch", "--steps", "40", "--eval-every", "20"),
        # Adam would make steps of the gradient of a bias before batch norm, which is rounding.
        *("--batch-size", "32", "--optimizer", "momentum", "--learning-rate", "0.03"),
    ]
    folder, alone = tmp_path / "several", tmp_path / "alone"
    for status, _, error in ended(start([*arguments, "--shard", "batch", "--out", str(folder)])):
        assert status == 0, error
    with jax.numpy_dtype_promotion("standard"):
        assert main([*arguments, "--out", str(alone)]) == 0
    assert_same_runs(folder, alone)


def in_slurm(arguments, count, which, **named):
    """Start the processes `which` of `count` as Slurm would."""
    job = str(free_port())  # Of which JAX makes the port.
    environment = {"SLURM_JOB_ID": job, "SLURM_STEP_NODELIST": "localhost"}
    environment["SLURM_NTASKS"] = str(count)
    return [
        Process(
            ["--distributed", *arguments],
            environment | {"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)},
            **named,
        )
        for number in which
    ]


def test_a_cluster_that_jax_knows_needs_no_flags(tmp_path, straight):
    folder = tmp_path / "run"
    for status, _, error in ended(in_slurm([*SWEEP, "--out", str(folder)], 2, range(2))):
        assert status == 0, error
    assert_same_runs(folder, straight)


@pytest.mark.parametrize("absent", [0, 1])
def test_a_process_of_a_cluster_that_never_joins_is_named(tmp_path, absent):
    folder = tmp_path / "run"
    present = [number for number in range(3) if number != absent]
    arguments = [*SWEEP, "--out", str(folder)]
    for status, _, error in ended(in_slurm(arguments, 3, present, join_seconds=5)):
        assert status == 2
        assert re.fullmatch(
            rf"error: --distributed: process {absent} of 3 \(0 to 2\) did not join within 5 s at "
            rf"localhost:\d+; see what it printed, and start all of them again\n",
            error,
        )
    assert not folder.exists()


@pytest.mark.parametrize(("victim", "count"), [(0, 1), (1, 3)])
def test_a_process_is_killed(tmp_path, straight, victim, count):
    """The other ends; the run goes on with another number of processes."""
    folder = tmp_path / "run"
    several = start([*SWEEP, "--out", str(folder)], pause=0.5)
    wait_for(lambda: checkpoints(folder) or several[0].poll() is not None)
    several[victim].kill()
    before = time.monotonic()
    status, _, error = ended(several)[1 - victim]
    assert time.monotonic() - before < 30
    assert status == 1
    lines = [line for line in error.splitlines() if not line.startswith("group")]
    assert lines == [
        f"error: another process ended, or cannot be reached; resume with: python -m train.mlp "
        f"--resume {folder}"
    ]
    assert not (folder / "summary.json").exists()
    arrays = max(checkpoints(folder)) / "arrays"
    # Each wrote what its devices held.
    assert {part.name[-1] for part in arrays.glob("ocdbt.process_*")} == {"0", "1"}
    again = ["--resume", str(folder)]
    if count == 1:
        with jax.numpy_dtype_promotion("standard"):
            assert main(again) == 0
    else:
        assert [status for status, _, _ in ended(start(again, count))] == [0] * count
    assert_same_runs(folder, straight)


def test_sigterm_to_one_process_stops_all(tmp_path, straight):
    folder = tmp_path / "run"
    several = start([*SWEEP, "--out", str(folder)], pause=0.5)
    wait_for(lambda: checkpoints(folder) or several[0].poll() is not None)
    several[1].send_signal(signal.SIGTERM)
    for status, _, error in ended(several):
        assert status == 128 + signal.SIGTERM
        assert re.search(r"terminated after step \d+; resume with: ", error.splitlines()[-1])
    assert not (folder / "summary.json").exists()
    assert [status for status, _, _ in ended(start(["--resume", str(folder)]))] == [0, 0]
    assert_same_runs(folder, straight)


@pytest.mark.parametrize("absent", [0, 1, 2])
def test_a_process_that_never_joins_is_named(tmp_path, absent):
    folder, port = tmp_path / "run", free_port()
    present = [number for number in range(3) if number != absent]
    arguments = [*SWEEP, "--out", str(folder)]
    for status, _, error in ended(start(arguments, 3, present, join_seconds=5, port=port)):
        assert status == 2
        assert error == (
            f"error: --distributed: process {absent} of 3 (0 to 2) did not join within 5 s at "
            f"127.0.0.1:{port}; see what it printed, and start all of them again\n"
        )
    assert not folder.exists()


def test_they_have_less_than_a_minute():
    assert cluster.JOIN_SECONDS <= 50
    assert cluster.LOST_SECONDS <= 25


def test_what_differs_between_processes_is_refused(tmp_path):
    folder, port = tmp_path / "run", free_port()
    arguments = ["--out", str(folder), "--steps", "5", "--learning-rate"]
    (one,) = start([*arguments, "0.1"], which=[0], port=port)
    (other,) = start([*arguments, "0.2"], which=[1], port=port)
    for status, _, error in ended([one, other]):
        assert status == 2
        assert error == (
            "error: learning_rate: is 0.2 of process 1, and 0.1 of process 0; start the same "
            "command everywhere\n"
        )
    assert not folder.exists()


def test_a_batch_that_cannot_be_divided_is_refused_by_all(tmp_path):
    folder = tmp_path / "run"
    arguments = ["--shard", "batch", "--batch-size", "30", "--out", str(folder)]
    for status, _, error in ended(start(arguments)):
        assert status == 2
        assert error == (
            "error: --batch-size 30: must be a multiple of the 4 devices with --shard batch, such "
            "as 28 or 32\n"
        )
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--processes 2",
            "--processes 2: is used with --distributed alone",
        ),
        (
            "--distributed --processes 2 --process-id 1",
            "--coordinator: is missing; it goes with the others of several machines",
        ),
        (
            "--distributed --coordinator h:1 --processes 2 --process-id 2",
            "--process-id 2: must be below 2, the number of --processes",
        ),
        (
            "--distributed --coordinator h --processes 2 --process-id 1",
            "--coordinator h: must be a machine and a free port of it, such as 10.0.0.1:7000",
        ),
        (
            "--distributed --dry-run",
            "--dry-run: measures on this machine, and says what more devices would take; leave "
            "--distributed out",
        ),
    ],
)
def test_flags_that_do_not_go_together(tmp_path, capsys, arguments, message):
    assert main([*arguments.split(), "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "run").exists()


def test_no_cluster():
    """Nothing in the environment tells of one."""
    command = [sys.executable, "-m", "train.mlp", "--distributed"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr == (
        "error: --distributed: JAX finds no cluster that it knows here; name --coordinator, "
        "--processes and --process-id\n"
    )
