"""The device: whether there is one, and how many runs at a time fit into its memory."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import psutil

from train.allowed import ConfigError
from train.collective import gathered

_SMALLER = "a smaller network or --batch-size, or fewer runs in a sweep"


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


def free_memory() -> int:
    """Return how many bytes can be allocated where the runs are computed."""
    stats = jax.local_devices()[0].memory_stats()
    if stats is not None:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    free = [psutil.virtual_memory().available]
    # A container may be allowed less than the machine has.
    with contextlib.suppress(OSError, ValueError):  # ValueError for "max".
        limit, used = (Path("/sys/fs/cgroup", f"memory.{part}") for part in ("max", "current"))
        free.append(int(limit.read_text()) - int(used.read_text()))
    return max(0, min(free))


class Fitting:
    """A function of many runs, compiled where it fits into memory, and refused where it does not.

    To try would be too late: a system that has promised more memory than it has kills the process.
    """

    def __init__(self, make: Callable[[int], Any], lockstep: int, choose: bool):
        """Compile nothing yet.

        Args:
            make: `make(n)` is the function jitted, with n runs at a time; the results are the same
                for all n.
            lockstep: how many runs at a time are wished for.
            choose: take fewer where that many do not fit, rather than refuse.
        """
        self._make, self._lockstep, self._choose = make, lockstep, choose
        self._compiled: dict[Any, Any] = {}
        self.bytes = 0  # That a call of what was compiled allocates, on a device.

    def __call__(self, *arguments: Any) -> Any:
        """Compute the function."""
        leaves, structure = jax.tree.flatten(arguments)
        signature = (structure, tuple(map(jax.typeof, leaves)))
        if signature not in self._compiled:
            self._compiled[signature] = self.compile(*arguments)
        return self._compiled[signature](*arguments)

    def compile(self, *arguments: Any) -> Any:
        """Return the function compiled for such arguments.

        Raises:
            MemoryError: it does not fit into memory; says with how many runs at a time it would.
        """
        # As much as the process with the least: all have to compile the same.
        free, lockstep = min(gathered(free_memory())), self._lockstep
        compiled = self._make(lockstep).lower(*arguments).compile()
        needed = _needed(compiled)
        if needed <= free:
            self.bytes = max(self.bytes, needed)
            return compiled
        # What is needed grows evenly with the runs at a time, but for what XLA sees fit to copy.
        one = _needed(self._make(1).lower(*arguments).compile()) if lockstep > 1 else needed
        fitting = 0
        if lockstep > 1 and one <= free:
            fitting = 1 + int((lockstep - 1) * (free - one) / (needed - one))
            while _needed(compiled := self._make(fitting).lower(*arguments).compile()) > free:
                fitting //= 2
        if fitting and self._choose:
            return compiled
        raise MemoryError(
            f"out of memory: {needed / 1e9:.3g} GB are needed"
            + (f" with --lockstep {lockstep}" if lockstep > 1 else "")
            + f", and {free / 1e9:.3g} GB are free; "
            + (f"--lockstep {fitting} fits" if fitting else f"take {_SMALLER}")
        )


def _needed(compiled: Any) -> int:
    """The bytes that a call allocates beside its arguments, which are there already."""
    memory = compiled.memory_analysis()
    if memory is None:
        return 0  # Not every platform tells.
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return memory.temp_size_in_bytes + results


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """A context in which running out of memory all the same raises a `MemoryError` in one line."""
    try:
        yield
    except RuntimeError as error:  # JAX's own error is one.
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        first, _, _ = str(error).removeprefix("RESOURCE_EXHAUSTED: ").partition("\n")
        raise MemoryError(
            f"out of memory: {first.rstrip('.')}; take a smaller --lockstep, {_SMALLER}"
        ) from error
