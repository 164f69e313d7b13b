"""Examples that are held out to test on, of data that have none."""

import numpy as np

from train.data.dataset import Dataset, Examples, sealed
from train.data.schema import Schema
from train.errors import ConfigError, DataError

DEFAULT_TEST = 0.2


def divided(
    name: str,
    description: str,
    whole: Examples,
    classes: tuple[str, ...],
    test: float | None,
    schema: Schema | None = None,
) -> Dataset:
    """Return a data set of which a part is held out to test on, the same share of each class.

    Args:
        name: of the data set.
        description: one line about where the data come from.
        whole: all inputs and labels.
        classes: the name of each class.
        test: the share, below 1, or the number of examples that are held out; None for the default.
        schema: how examples become inputs.

    Raises:
        DataError: a class has a single example.
        ConfigError: too few or too many examples are to be held out.
    """
    parts = held_out_to_test(whole[1], classes, test, name)
    return with_parts(name, description, whole, parts, classes, schema)


def held_out_to_test(
    y: np.ndarray, classes: tuple[str, ...], test: float | None, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the examples to train on and of those to test on; see `divided`."""
    from sklearn.model_selection import train_test_split

    examples, counts = len(y), np.bincount(y, minlength=len(classes))
    present = int((counts > 0).sum())
    if (single := np.flatnonzero(counts == 1)).size:
        raise DataError(
            f"{name}: class {classes[single[0]]} has one example only; needs two or more, to train "
            f"on and to test on"
        )
    share = DEFAULT_TEST if test is None else test
    count = round(share * examples) if share < 1 else int(share)
    if test is None:
        count = max(count, present)
    if not present <= count <= examples - present:
        raise ConfigError(
            f"--test {share:g}: holds out {count} of {examples} examples of {name}; must be from "
            f"{present} to {examples - present} examples, so that each of the {present} classes is "
            f"on both sides"
        )
    train, held = train_test_split(np.arange(examples), test_size=count, random_state=0, stratify=y)
    if len(np.unique(y[train])) < present or len(np.unique(y[held])) < present:
        return _of_each_class(y, counts, count)
    return train, held


def _of_each_class(y: np.ndarray, counts: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of both sides where a share of a small class would be none of it.

    Args:
        y: the labels.
        counts: of each class, 0 or at least 2.
        count: of examples to hold out; one of each class at least, and not the last of one.
    """
    ideal, most = counts * (count / len(y)), np.maximum(counts - 1, 0)
    held_of = np.minimum(np.maximum(np.floor(ideal).astype(int), counts > 0), most)
    while (over := int(held_of.sum()) - count) != 0:
        room = held_of > 1 if over > 0 else held_of < most
        off = np.where(room, np.sign(over) * (held_of - ideal), -np.inf)
        held_of[np.argmax(off)] -= np.sign(over)
    order = np.random.default_rng(0).permutation(len(y))
    rank = np.zeros(len(y), int)  # Of an example among those of its class, in that order.
    for label in np.flatnonzero(counts):
        places = order[y[order] == label]
        rank[places] = np.arange(len(places))
    out = rank[order] < held_of[y[order]]
    return order[~out], order[out]


def with_parts(
    name: str,
    description: str,
    whole: Examples,
    parts: tuple[np.ndarray, np.ndarray],
    classes: tuple[str, ...],
    schema: Schema | None,
) -> Dataset:
    """Return a data set with these parts to train and to test on."""
    (x, y), (train, held) = whole, parts
    share = len(held) / len(y)
    description += f" {len(held)} of them, {share:.0%} of each class, are held out to test on."
    return sealed(name, description, (x[train], y[train]), (x[held], y[held]), classes, schema)


def with_test(
    name: str,
    description: str,
    train: Examples,
    test: Examples,
    classes: tuple[str, ...],
    schema: Schema,
) -> Dataset:
    """Return a data set that has examples to test on.

    The training examples are put into a random order: the last of them are held out to validate on,
    and would be of one class where they are sorted.
    """
    order = np.random.default_rng(0).permutation(len(train[1]))
    description += f" {len(test[1])} more are to test on."
    shuffled = train[0][order], train[1][order]
    return sealed(name, description, shuffled, test, classes, schema)
