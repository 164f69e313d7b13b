"""How the commands set up JAX before it computes anything."""

import contextlib
import os

import jax

from train.cache import cache_folder
from train.errors import ConfigError

# Each holds the data set.
MOST_CPU_DEVICES = 8


def set_up() -> None:
    """Spread work over the cores of a CPU, and keep what is compiled from one command to the next.

    What the user set in the environment (JAX_NUM_CPU_DEVICES, JAX_COMPILATION_CACHE_DIR,
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS and the like) stays as it is.

    Raises:
        ConfigError: other users can write to the folder that XDG_CACHE_HOME names.
    """
    # A device for each core, so that the runs of a sweep spread over them. One run still uses all
    # cores, but a small network gains nothing by it: twenty of 64-100-10 took 55 us per step and
    # run with batch 200 on two cores together, and 30 us with ten on each.
    forced = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if jax.config.values["jax_num_cpu_devices"] < 1 and not forced:
        with contextlib.suppress(RuntimeError):  # JAX is running already: a caller's notebook.
            jax.config.update("jax_num_cpu_devices", min(os.cpu_count() or 1, MOST_CPU_DEVICES))

    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if jax.config.values["jax_compilation_cache_dir"] is None:
        folder = cache_folder("compiled")
        # Without a folder that can be written all is as well, only slower.
        if folder is not None and os.access(folder, os.W_OK):
            jax.config.update("jax_compilation_cache_dir", str(folder))


def devices() -> list[jax.Device]:
    """Return the devices that JAX computes on.

    Raises:
        ConfigError: the platform that JAX_PLATFORMS asks for is unknown, or does not start.
    """
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # An assertion where the plugin is missing.
        asked = os.environ.get("JAX_PLATFORMS")
        if not asked:
            raise ConfigError(f"JAX finds no device: {' '.join(str(error).split())}") from error
        jax.config.update("jax_platforms", None)
        found = sorted({"cpu", jax.devices()[0].platform})
        raise ConfigError(
            f"JAX_PLATFORMS={asked}: must be one of {', '.join(found)} here, or not set; cuda and "
            f"tpu need the plugin that pip install 'jax[cuda]' or 'jax[tpu]' brings, and the device"
        ) from error
