"""What --dry-run prints of the costs that were measured."""

from collections.abc import Sequence

import jax
from rich import box
from rich.console import Console
from rich.table import Table

from train.engine.dry_run import Expected
from train.engine.memory import free_memory
from train.flags.config import declared, flags
from train.flags.sweep import Group, varying


def table(groups: Sequence[Group], found: Sequence[Expected], devices: int) -> Table:
    """Return a row for each group, and one for all."""
    names = _telling(groups)
    here = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), min_width=20
    )
    here.add_column("group")
    headings = ("runs", "steps", "lockstep", "programs", "memory\na run", "memory\nin all", "time")
    for heading in headings:
        here.add_column(heading, justify="right")
    for group, row in zip(groups, found, strict=True):
        values = flags(group.shape)
        what = ", ".join(f"{name.replace('_', '-')} {values[name]}" for name in names)
        here.add_row(
            what or "all",
            str(row.runs),
            str(row.steps),
            str(row.lockstep),
            str(row.programs),
            amount(row.run_bytes),
            amount(row.bytes(devices)),
            f"{duration(row.seconds(devices))}{'' if row.measured else ' *'}",
        )
    if len(groups) > 1:
        here.add_section()
        here.add_row(
            "all",
            str(sum(row.runs for row in found)),
            "",
            "",
            str(sum(row.programs for row in found)),
            "",
            amount(max(row.bytes(devices) for row in found)),
            duration(sum(row.seconds(devices) for row in found)),
        )
    return here


def show(
    groups: Sequence[Group],
    found: Sequence[Expected],
    devices: int,
    console: Console,
    shard: str = "runs",
) -> None:
    """Print the costs in a few lines, a table of the groups, and what limits more devices.

    Args:
        groups: the runs, by their shape.
        found: what each group would take.
        devices: how many devices there are.
        console: where the table goes.
        shard: what is spread over them, "runs" or "batch".
    """
    over = 1 if shard == "batch" else devices
    runs, compilation = sum(row.runs for row in found), sum(row.compilation for row in found)
    total = duration(sum(row.seconds(over) for row in found))
    memory = amount(max(row.bytes(over) for row in found))
    in_groups = f" in {len(found)} groups" if len(found) > 1 else ""
    on = f"{devices} devices" if devices > 1 else "1 device"
    here = " on each device" if jax.devices()[0].platform != "cpu" else ""
    print(
        f"time    about {total} on {on}; {duration(compilation)} of it to compile, once\n"
        f"memory  {memory}; {amount(free_memory())} are free{here}\n"
        f"runs    {runs}{in_groups}\n"
    )
    console.print(table(groups, found, over))
    if not all(row.measured for row in found):
        print("* Estimated from the measured group whose runs are closest in size.")
    print(f"\n{_limits(found, compilation, shard)}")


def _limits(found: Sequence[Expected], compilation: float, shard: str) -> str:
    """What more devices would change, as far as that is known."""
    if shard == "batch":
        return "More devices divide the batch of each step; how long that takes was not measured."
    most = max(row.runs for row in found)
    if most > 1:
        runs, more = f"no group has more than {most}", f"More than {most} devices save"
    else:
        runs = "each group has one run" if len(found) > 1 else "there is one run"
        more = "More than 1 device saves"
    return (
        f"More devices: a run trains on one device, and {runs}.\n"
        f"{more} no time; compiling takes "
        f"{duration(compilation)} on any number of them."
    )


def _telling(groups: Sequence[Group]) -> list[str]:
    """The flags in which groups differ, and which are not numbers of the runs in them."""
    shapes = [group.shape for group in groups]
    known, numbers = declared(type(shapes[0])), ("seed", "steps", "epochs")
    return [name for name in varying(shapes) if not known[name].traced and name not in numbers]


def amount(count: int) -> str:
    """Return a number of bytes in words."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * size:  # To three figures that is 1.
            return f"{count / size:.3g} {unit}"
    return f"{count} B"


def duration(seconds: float) -> str:
    """Return a time in words, to two figures or so."""
    for unit, size, part, small in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if seconds >= size:
            whole, rest = divmod(round(seconds / small), size // small)
            return f"{whole} {unit} {rest} {part}"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"
