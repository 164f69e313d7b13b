"""What every test runs under: four virtual devices, strict promotion, precision by choice.

On a GPU or TPU too the meshes are of the CPU's virtual devices; all else is computed there.

Most of a test's time is compiling, so XLA is asked to optimise little. `XLA_FLAGS= python -m
pytest` compiles as users do; .ci/run has the tests of the ops' values run that way, too.
"""

import gc
import importlib.metadata
import os
import tempfile

# Compiling takes two fifths of the time that it takes without them.
_QUICK = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    _QUICK += ["--xla_cpu_use_fusion_emitters=false"]  # Later versions have nothing else.
os.environ.setdefault("XLA_FLAGS", " ".join(_QUICK))

# Of the objects that JAX keeps, few ever become garbage, and to look through them all takes long.
gc.set_threshold(100_000, 20, 100)

# What one worker, or a process that a test starts, compiles in a tenth of a second or more, the
# others load. What was compiled before this run counts for nothing, and what commands keep does not
# end up in the home folder.
_cache = None
if "PYTEST_XDIST_WORKER" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="jaxnets-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
    os.environ["XDG_CACHE_HOME"] = _cache.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax  # noqa: E402

# Before JAX starts its backend.
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
# A GPU or TPU would take the factors of float32 products with fewer digits.
jax.config.update("jax_default_matmul_precision", "highest")

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402


def pytest_unconfigure():
    """Delete the cache when the last worker has ended."""
    if _cache is not None:
        _cache.cleanup()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each worker tests that stand together: they need the same programs."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.fixture
def rng(request):
    """Random numbers, the same for a test whichever tests run before it."""
    return np.random.default_rng(list(request.node.name.encode()))


@pytest.fixture
def x64():
    """Double precision, for the one test: elsewhere JAX is as its users have it."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["float64", "float32", "bfloat16"])
def dtype(request):
    """Each dtype; double precision is enabled for float64 alone."""
    with jax.enable_x64(request.param == "float64"):
        yield jnp.dtype(request.param)


@pytest.fixture(scope="session")
def explicit_mesh():
    """Four devices along `batch`, whose shardings are part of an array's type."""
    return _mesh(jax.sharding.AxisType.Explicit)


@pytest.fixture(scope="session")
def auto_mesh():
    """Four devices along `batch`, for `shard_map`."""
    return _mesh(jax.sharding.AxisType.Auto)


def _mesh(axis_type):
    return jax.make_mesh((4,), ("batch",), (axis_type,), devices=jax.devices("cpu"))
