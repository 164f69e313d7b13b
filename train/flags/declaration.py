"""What a flag is beside type, default and help: it stands on the field, see `config`."""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

AUGMENTATIONS = ("flip", "shift", "cutout")


class Allowed(NamedTuple):
    """What one value of a flag must be, as a test and in words."""

    test: Callable[[Any], bool]
    words: str


@dataclass(frozen=True, eq=False)  # Python hashes the annotations of a union.
class Flag:
    """A flag of a run.

    Attributes:
        allowed: its values, where these are not all of its type.
        one: whether all runs of a sweep have the same value, or --seeds and --folds count it.
        traced: whether it is a number in which the runs of one compiled program may differ.
        law: how --search draws it from a range of real numbers: "log", where its order of magnitude
            is what matters; "log from 1", where that of 1 - value is; "uniform". None to draw one
            of the values.
        off: the value of a traced number that has no effect. A run that has it does without the
            number; stacked with runs that have the number, it takes this value, or 0.
        before: its value in a run directory that was made before there was the flag; `...` where
            every run directory has it.
        needs: another flag, and the default with each of its values that this one has an effect
            with; it has none with the others.
    """

    allowed: "Allowed | None" = None
    one: bool = False
    traced: bool = False
    law: Literal["log", "log from 1", "uniform"] | None = None
    off: float | None = None
    before: Any = ...
    needs: tuple[str, Mapping[str, Any]] | None = None


# --- what is allowed -----------------------------------------------------------------------------

# Comparisons with NaN are false, so none of these lets it through.

AT_LEAST_1 = Allowed(lambda n: 1 <= n < 2**31, "a whole number from 1 on, below 2^31")
AT_LEAST_0 = Allowed(lambda n: 0 <= n < 2**31, "a whole number from 0 on, below 2^31")
POSITIVE = Allowed(lambda x: 0 < x < math.inf, "positive and finite in float32")
NOT_NEGATIVE = Allowed(lambda x: 0 <= x < math.inf, "not negative and finite in float32")
FINITE = Allowed(lambda x: -math.inf < x < math.inf, "finite in float32")
BELOW_1 = Allowed(lambda x: 0 <= x < 1, "at least 0 and below 1 in float32")


def hidden_widths(hidden: str) -> tuple[int, ...]:
    """Parse the widths of hidden layers, "500-100" or "3x1000".

    Returns:
        The widths, or () where the text is not understood, or names a width of 0 or above a
        million, or more than a thousand layers.
    """
    widths: list[int] = []
    for part in hidden.split("-"):
        match = re.fullmatch(r"(?:([0-9]{1,4})x)?([0-9]{1,7})", part)
        if match is None:
            return ()
        widths += [int(match[2])] * int(match[1] or 1) or [0]
    allowed = len(widths) <= 1000 and all(1 <= width <= 1_000_000 for width in widths)
    return tuple(widths) if allowed else ()


def augmentations(augment: str) -> tuple[str, ...] | None:
    """Parse the random changes of an image, "none" or "flip-shift".

    Returns:
        Their names, in the order in which they are made; None where the text is not understood.
    """
    names = [] if augment == "none" else augment.split("-")
    if len(set(names)) < len(names) or not set(names) <= set(AUGMENTATIONS):
        return None
    return tuple(name for name in AUGMENTATIONS if name in names)


# The files of one's own that --dataset takes.
DATA_FILES = (".npz", ".csv", ".parquet")


def data_path(dataset: str) -> Path | None:
    """Return the file or folder that --dataset names; None where it names a data set.

    A path has a slash in it, begins with "~" or ".", or ends as a file of `DATA_FILES` does: which
    of the two is meant does not depend on what lies in the working folder.
    """
    if "/" in dataset or dataset.startswith(("~", ".")) or dataset.lower().endswith(DATA_FILES):
        return Path(os.path.expanduser(dataset))
    return None
