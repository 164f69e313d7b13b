"""The device: whether there is one, and how many runs at a time fit into its memory."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import psutil

from train.engine.segments import LONGEST_SEGMENT
from train.flags.config import Training
from train.processes import signals
from train.processes.collectives import gathered

if TYPE_CHECKING:
    from train.engine.sharding import Spread

_SMALLER = "a smaller network or --batch-size, or fewer runs in a sweep"


def free_memory() -> int:
    """Return how many bytes can be allocated where the runs are computed."""
    stats = jax.local_devices()[0].memory_stats()
    if stats is not None:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return max(0, min([psutil.virtual_memory().available, *_left_by_containers()]))


# Of each version of control groups: where the memory's are mounted, the files of the limit and of
# what is used, and the entry of memory.stat that counts cached files, which give way.
_CGROUPS = {
    1: ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("", "memory.max", "memory.current", "inactive_file"),
}

_MOUNTED, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def _left_by_containers(root: Path = _MOUNTED, own: Path = _OWN) -> Iterator[int]:
    """Yield how many bytes each control group that this process is in can still take."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return  # Not Linux.
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mount, limit, used, cached = _CGROUPS[1 if controllers else 2]
        # Within a container the path may be that outside of it, and the mount its own group's.
        for part in (Path(path), *Path(path).parents):
            folder = root / mount / part.relative_to("/")
            with contextlib.suppress(OSError, ValueError):  # ValueError for "max".
                rows = (folder / "memory.stat").read_text().splitlines()
                given_up = int(dict(row.split() for row in rows).get(cached, 0))
                taken = int((folder / used).read_text()) - given_up
                yield int((folder / limit).read_text()) - taken


def check_memory(run: int, params: Any, spread: "Spread") -> None:
    """Raise a `MemoryError` where runs cannot fit into memory, whatever their programs need.

    That takes no compilation, which can last minutes for a network that no machine holds.

    Args:
        run: the bytes that a run holds, see `run_bytes`.
        params: the shapes and dtypes of its parameters; a run that is computed has as large a
            gradient.
        spread: where the runs lie.
    """
    free = min(gathered(free_memory()))
    needed = spread.rows_together * run + nbytes(params)
    if needed <= free:
        return
    each = f" ({run / 1e9:.3g} GB for each run)" if spread.rows_together > 1 else ""
    raise MemoryError(
        f"out of memory: {needed / 1e9:.3g} GB are needed{each}, and {free / 1e9:.3g} GB are "
        f"free; take {_SMALLER}"
    )


def run_bytes(state: Any, training: Training, last: int) -> int:
    """Return the bytes that a run holds from its first step to its last.

    Args:
        state: the shapes and dtypes of what a run keeps from step to step.
        training: its batch size, how often it is evaluated, and which parameters it keeps.
        last: its last step.
    """
    # The best parameters until now are a copy, as the state goes on to the next step.
    best = (state.params, state.statistics) if training.keep == "best" else ()
    steps = min(training.eval_every, last, LONGEST_SEGMENT)
    examples = 4 * steps * training.batch_size  # Which ones its next steps take.
    return nbytes((state, best)) + examples


def nbytes(tree: Any) -> int:
    """Return the bytes of the arrays of a tree, which may be their shapes and dtypes alone."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


Compiling = Callable[[], contextlib.AbstractContextManager[None]]


class Fitting:
    """A function of many runs, compiled where it fits into memory, and refused where it does not.

    To try would be too late: a system that has promised more memory than it has kills the process.
    """

    def __init__(
        self,
        make: Callable[[int], Any],
        lockstep: int,
        choose: bool,
        compiling: Compiling = contextlib.nullcontext,
    ):
        """Compile nothing yet.

        Args:
            make: `make(n)` is the function jitted, with n runs at a time; the results are the same
                for all n.
            lockstep: how many runs at a time are wished for.
            choose: take fewer where that many do not fit, rather than refuse.
            compiling: makes a context that is entered while something is compiled.
        """
        self._make, self._lockstep, self._choose = make, lockstep, choose
        self.compiling = compiling
        self._compiled: dict[Any, tuple[Any, int]] = {}  # And the bytes that it needs.
        self._unchecked = set[Any]()  # Of these, what was compiled when other memory was free.
        self.bytes = 0  # That a call of what was compiled allocates, on a device.

    def __call__(self, *arguments: Any) -> Any:
        """Compute the function."""
        return self.prepare(*arguments)(*arguments)

    def prepare(self, *arguments: Any) -> Any:
        """Return the function compiled for such arguments, once."""
        leaves, structure = jax.tree.flatten(arguments)
        signature = (structure, tuple(map(jax.typeof, leaves)))
        compiled, needed = self._compiled.get(signature, (None, 0))
        if signature in self._unchecked and needed > min(gathered(free_memory())):
            compiled = None
        if compiled is None:
            compiled = self.compile(*arguments)
            needed = _needed(compiled)  # Asked once: XLA takes a millisecond to answer.
            self._compiled[signature] = compiled, needed
        self._unchecked.discard(signature)
        self.bytes = max(self.bytes, needed)
        return compiled

    def begin_anew(self, compiling: Compiling) -> None:
        """Serve another training, in whose beginning other memory may be free."""
        self.compiling, self.bytes, self._unchecked = compiling, 0, set(self._compiled)

    def compile(self, *arguments: Any) -> Any:
        """Return the function compiled for such arguments.

        Raises:
            MemoryError: it does not fit into memory; says with how many runs at a time it would.
        """
        with self.compiling():
            return self._compile(*arguments)

    def _compile(self, *arguments: Any) -> Any:
        # As much as the process with the least: all have to compile the same.
        free, lockstep = min(gathered(free_memory())), self._lockstep
        compiled = _compiled(self._make(lockstep).lower(*arguments))
        needed = _needed(compiled)
        if needed <= free:
            self.bytes = max(self.bytes, needed)
            return compiled
        # What is needed grows evenly with the runs at a time, but for what XLA sees fit to copy.
        one = _needed(_compiled(self._make(1).lower(*arguments))) if lockstep > 1 else needed
        fitting = 0
        if lockstep > 1 and one <= free:
            fitting = 1 + int((lockstep - 1) * (free - one) / (needed - one))
            while _needed(compiled := _compiled(self._make(fitting).lower(*arguments))) > free:
                fitting //= 2
        if fitting and self._choose:
            return compiled
        raise MemoryError(
            f"out of memory: {needed / 1e9:.3g} GB are needed"
            + (f" with --lockstep {lockstep}" if lockstep > 1 else "")
            + f", and {free / 1e9:.3g} GB are free; "
            + (f"--lockstep {fitting} fits" if fitting else f"take {_SMALLER}")
        )


def _compiled(lowered: Any) -> Any:
    # Several processes compile together, and stop together where the next segment ends.
    return signals.aside(lowered.compile) if jax.process_count() == 1 else lowered.compile()


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
