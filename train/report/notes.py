"""Notes below a table: how it is sorted, what the means are over, which runs ended early."""

from collections.abc import Sequence
from typing import Any

from train.metrics import RANKED_BY
from train.run_directory.summary import judge


def ranking(rows: Sequence[dict[str, Any]], caution: str) -> list[str]:
    """Return how the rows are sorted, or `caution`, and what stands behind ±."""
    if caution:
        return [f"{caution[0].upper()}{caution[1:]}.", *deviation(rows)]
    return [f"Sorted by final {judge(*rows)} {RANKED_BY}, the best first.", *deviation(rows)]


def deviation(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return over how many runs the means are taken; nothing where there is one each."""
    counts = sorted({len(row["seeds"]) for row in rows})
    if counts == [1]:
        return []
    seeds = sorted({len(set(row["seeds"])) for row in rows})
    over = [_many(seeds, "seed")]
    if any(row["folds"] for row in rows):
        over.append(_many(sorted({len(set(row["folds"] or [0])) for row in rows}), "fold"))
    return [f"Mean ± standard deviation over {' and '.join(over)}."]


def _many(counts: Sequence[int], what: str) -> str:
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{number} {what}{'s' * (counts[-1] > 1)}"


_ENDINGS = ("diverged", "stopped early", "unfinished")


def endings(rows: Sequence[dict[str, Any]]) -> dict[str, dict[int, str]]:
    """Return which rows did not end as was asked, by the kind of ending, and where."""
    found: dict[str, dict[int, str]] = {kind: {} for kind in _ENDINGS}
    for number, row in enumerate(rows):
        for kind, key in (("diverged", "diverged"), ("stopped early", "stopped")):
            steps = [step for step in row[key] if step is not None]
            if steps:
                found[kind][number] = _where(steps, len(row["seeds"]))
        if row.get("unfinished") is not None:
            found["unfinished"][number] = f"at step {row['unfinished']}"
    return found


def _where(steps: Sequence[int], runs: int) -> str:
    few = f"{len(steps)} of {runs} runs " if runs > 1 else ""
    low, high = min(steps), max(steps)
    return f"{few}at step {low}" + (f" to {high}" if high > low else "")


def said(marks: dict[str, dict[int, str]]) -> list[str]:
    """Return a note for each kind of ending, see `endings`."""
    words = {
        "diverged": "diverged, and not in the means",
        "stopped early": "stopped early, without a new lowest validation loss",
        "unfinished": "unfinished",
    }
    return [
        f"* {words[kind]}: " + "; ".join(f"row {i + 1}, {where}" for i, where in rows.items()) + "."
        for kind, rows in marks.items()
        if rows
    ]


def ended(row: dict[str, Any]) -> list[str]:
    """Return how the runs of a single configuration ended, where that is not as was asked."""
    return [
        f"{kind} {where}" if len(row["seeds"]) == 1 else f"{kind}: {where}"
        for kind, rows in endings([row]).items()
        for where in rows.values()
    ]
