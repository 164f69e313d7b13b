"""What configurations are called: by the flags in which they differ."""

import os
from collections.abc import Sequence
from typing import Any


def varying(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the flags in which configurations differ; one that some lack is None in those."""
    names = dict.fromkeys(name for row in rows for name in row["config"])
    return [name for name in names if len({row["config"].get(name) for row in rows}) > 1]


def labels(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what to call each configuration: the run directory and the flags that differ."""
    names = varying(rows)
    several = len({row.get("run_directory") for row in rows}) > 1
    parts = ([row.get("run_directory", "")] * several + words(row, names) for row in rows)
    return [", ".join(part) or "all runs" for part in parts]


def words(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Return those flags of a configuration that have an effect in it, with their values."""
    values = {name: row["config"].get(name) for name in names}
    return [
        f"{name.replace('_', '-')} {value_of(value)}"
        for name, value in values.items()
        if value is not None
    ]


def value_of(value: Any) -> str:
    """Return the value of a flag as it is shown."""
    if value is None:
        return "-"
    if isinstance(value, str) and os.path.isabs(value):
        return os.path.basename(value)  # Of --dataset; the whole path leaves no room in a table.
    return f"{value:g}" if isinstance(value, float) else str(value)
