"""In processes of their own: what JAX is told counts from its start."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
from train.engine import devices
devices.set_up()
import jax
jax.jit(lambda x: x + 1)(1.0)
print(jax.device_count(), jax.config.jax_compilation_cache_dir)
"""


def found(folder, **environment):
    """The number of devices, and the cache of a process with this environment."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("JAX", "XLA", "XDG"))}
    environment = {
        **inherited,
        "XDG_CACHE_HOME": str(folder),
        "JAX_PLATFORMS": "cpu",
        **environment,
    }
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    devices, cache = process.stdout.split()
    return int(devices), cache


@pytest.mark.slow
def test_what_is_compiled_is_kept(tmp_path):
    folder = tmp_path / "jaxnets" / "compiled"
    assert found(tmp_path) == (min(os.cpu_count(), 8), str(folder))
    programs = {path: path.stat().st_mtime_ns for path in folder.glob("*-cache")}
    assert programs
    found(tmp_path)  # Finds there what it needs, and adds nothing.
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*-cache")} == programs


@pytest.mark.slow
def test_what_the_user_set_stays(tmp_path):
    own = tmp_path / "own"
    assert found(tmp_path, JAX_COMPILATION_CACHE_DIR=str(own), JAX_NUM_CPU_DEVICES="3") == (
        3,
        str(own),
    )
    assert list(own.glob("*-cache"))


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["", "--xla_force_host_platform_device_count=3"])
def test_without_a_folder_that_can_be_written_nothing_is_kept(tmp_path, flag):
    file = tmp_path / "file"
    file.touch()
    devices, cache = found(file, XLA_FLAGS=flag)
    assert devices == (3 if flag else min(os.cpu_count(), 8))
    assert cache == "None"
