"""How runs, or the batch of each run, are spread over the devices of one process or of several."""

import contextlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from train.engine.input_pipeline import Data, Sets
from train.engine.memory import Compiling, Fitting
from train.engine.placement import assembled, placed


class Spread:
    """Where the arrays of several runs lie, and the functions that compute with them.

    Attributes:
        rows: which run each row of such an array is of; the last may be repeated at the end, so
            that every device has as many.
        own: the sharding of what each run has; None where there is one device.
        indices: the sharding of the examples of its steps, [rows, steps, batch size].
        shared: the sharding of what all runs share; None where there is one device.
        key: what the functions compiled by two that have the same key have in common: all.
    """

    def __init__(
        self,
        shard: str,
        runs: int,
        lockstep: int | None,
        compiling: Compiling = contextlib.nullcontext,
    ):
        """Divide.

        Args:
            shard: what is spread over all devices, "runs", or the batch of each run, "batch"; its
                size is then a multiple of the number of devices.
            runs: how many runs there are.
            lockstep: how many runs a device computes at a time; None to choose.
            compiling: makes a context that is entered while something is compiled.
        """
        self._compiling = compiling
        mesh = _mesh(shard, runs)
        self._runs_mesh = mesh if shard == "runs" else None
        self._batch_mesh = mesh if shard == "batch" else None
        devices = self._runs_mesh.size if self._runs_mesh else 1
        self.rows = [*range(runs), *[runs - 1] * (-runs % devices)]
        self._choose = lockstep is None
        self._lockstep = lockstep or choose_lockstep(
            jax.devices()[0].platform, len(self.rows) // devices
        )
        self.key = (mesh, shard, len(self.rows), self._lockstep, self._choose)
        self._whole = None if mesh is None else NamedSharding(mesh, PartitionSpec())
        self.shared = self.own = self.indices = self._whole
        if self._runs_mesh:
            self.own = self.indices = _along(self._runs_mesh, "runs")
        # The batch is divided by the sharding of its indices alone: the compiler derives the rest,
        # and a mean over the batch remains one over all of it.
        if self._batch_mesh:
            self.indices = _along(self._batch_mesh, None, None, "batch")

    def compiled(
        self,
        function: Callable[..., Any],
        compiler: Mapping[str, Any] = MappingProxyType({}),
        **options: Any,
    ) -> Fitting:
        """Return `function` of one run as one of all, compiled where it is called.

        Args:
            function: see `over_runs`.
            compiler: options of XLA's beside those that the devices need.
            **options: of `jax.jit`.
        """

        def make(lockstep: int) -> Any:
            return jax.jit(
                over_runs(function, lockstep, self._runs_mesh),
                out_shardings=self.own,
                compiler_options={**_options(self._runs_mesh), **compiler} or None,
                **options,
            )

        return Fitting(make, self._lockstep, self._choose, self._compiling)

    def over_examples(self, evaluate: Callable[..., Any]) -> Callable[..., Any]:
        """Return `Program.evaluate` of one run, with each device at its part of the examples.

        So it is where the batch is spread, and where the examples can be divided evenly.
        """
        mesh = self._batch_mesh
        if mesh is None:
            return evaluate

        def part(state, hyper, data):
            return jax.tree.map(whole_of, evaluate(state, hyper, data))

        def whole_of(metric):
            mean = jnp.issubdtype(metric.dtype, jnp.floating)
            return (jax.lax.pmean if mean else jax.lax.psum)(metric, "batch")

        def divided(state, hyper, data):
            if self._divided(data) is None:
                return evaluate(state, hyper, data)
            whole, examples = PartitionSpec(), PartitionSpec("batch")
            specs = (whole, whole, Data(examples, examples, whole, whole))
            return jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=whole)(
                state, hyper, data
            )

        return divided

    def placed(self, sets: Sets) -> Sets:
        """Put what the runs share on the devices: what is only evaluated in parts, as above."""
        if self._whole is None:
            return sets

        def parts(data: Data) -> Data:
            where = self._divided(data)
            if where is None:
                return placed(data, self._whole)
            examples = placed((data.x, data.y), where)
            return Data(*examples, *placed((data.shift, data.scale), self._whole))

        validation = sets.validation and parts(sets.validation)
        return Sets(placed(sets.train, self._whole), validation, parts(sets.test))

    def _divided(self, data: Data) -> NamedSharding | None:
        """Where the parts of examples lie that can be divided evenly over a batch's devices."""
        if self._batch_mesh is None or len(data.y) % self._batch_mesh.size:
            return None
        return _along(self._batch_mesh, "batch")

    @property
    def here(self) -> set[int]:
        """The runs that lie on devices of this process."""
        if self.own is None:
            return set(self.rows)
        parts = self.own.addressable_devices_indices_map((len(self.rows),)).values()
        return {run for part in parts if part for run in self.rows[part[0]]}

    @property
    def rows_together(self) -> int:
        """How many rows lie in one memory: that of a device, or of all devices of a CPU here."""
        if self.own is None:
            return len(self.rows)
        parts = self.own.addressable_devices_indices_map((len(self.rows),)).values()
        counts = [len(self.rows[part[0]]) for part in parts if part]
        return sum(counts) if jax.default_backend() == "cpu" else max(counts)

    def assembled(self, taken: Mapping[int, np.ndarray]) -> jax.Array:
        """Return the examples of the next steps on the devices.

        Args:
            taken: int32 [steps, batch size] of each run that lies on devices of this process.

        Returns:
            int32 [rows, steps, batch size].
        """

        def part(index: tuple[slice, ...]) -> np.ndarray:
            rows, *rest = index
            return np.stack([taken[run][*rest] for run in self.rows[rows]])

        shape = next(iter(taken.values())).shape
        return assembled((len(self.rows), *shape), self.indices, part)


def over_runs(
    function: Callable[..., Any], lockstep: int, mesh: Mesh | None = None
) -> Callable[..., Any]:
    """Return `function` of one run as a function of many, all in one program.

    Args:
        function: takes trees of arrays, and what the runs share as a last argument.
        lockstep: how many runs are computed at a time, by `jax.vmap`; these go one after the other.
        mesh: devices along an axis "runs", over which the runs are spread; `lockstep` is then that
            of each device. None where one device, or all together, compute each run.

    Returns:
        A function of the same trees, whose arrays have a leading axis of runs.
    """

    def mapped(*arguments):
        *own, shared = arguments

        def one(own):
            return function(*own, shared)

        if lockstep == 1:  # A batch of one would cost more than none.
            return jax.lax.map(one, tuple(own))
        return jax.lax.map(one, tuple(own), batch_size=lockstep)

    if mesh is None:
        return mapped

    def spread(*arguments):
        # Each device goes through its own runs; nothing passes between them.
        own, shared = PartitionSpec("runs"), PartitionSpec()
        specs = (own,) * (len(arguments) - 1) + (shared,)
        return jax.shard_map(mapped, mesh=mesh, in_specs=specs, out_specs=own)(*arguments)

    return spread


def _mesh(shard: str, runs: int) -> Mesh | None:
    """All devices along one axis; None where one is enough.

    Of a single process, there are no more than runs; of several, each computes its part.
    """
    devices = jax.devices()[: runs if shard == "runs" and jax.process_count() == 1 else None]
    if len(devices) == 1:
        return None
    return jax.make_mesh((len(devices),), (shard,), (AxisType.Auto,), devices=devices)


def _along(mesh: Mesh, *axes: str | None) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(*axes))


def _options(runs_mesh: Mesh | None) -> dict[str, Any]:
    """How to compile what each device computes for itself."""
    if runs_mesh is None or runs_mesh.devices.flat[0].platform != "cpu":
        return {}
    # The devices of a CPU share its cores. Where each is busy with runs of its own, a loop that is
    # divided over the cores only moves the weights from one cache to another: twenty runs of
    # 784-300-10 at batch 1 on two cores took 14.3 us per step and run, 16.1 with such loops.
    return {"xla_disable_hlo_passes": "cpu-parallel-task-assigner"}


def choose_lockstep(platform: str, runs: int) -> int:
    """Return how many runs of a group to train at a time on a device.

    Args:
        platform: of the device: "cpu", "gpu" or "tpu".
        runs: how many runs the device has.
    """
    if platform != "cpu":
        return runs
    # Each core of a CPU has runs of its own (see `backend`), and one at a time stays in its cache.
    # Microseconds per step and run of twenty runs on two cores, by how many at a time on each:
    #                                  1      5     10
    #   64-100-10, batch 1, Adam      6.6    6.0    6.1
    #   64-100-10, batch 200, Adam   59.5   60.4   62.0
    #   784-300-10, batch 1, SGD     26.6   34.6   32.7
    return 1
