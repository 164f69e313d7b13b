"""Whether a gradient is the same under `jax.vmap`, inside and outside of it."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets._checking.case import Case, vjp
from jaxnets._checking.interpreter import equations
from jaxnets._checking.programs import each, remembered
from jaxnets._checking.verdict import Check, compare

# Random keys of these kinds are documented to draw other numbers under vmap.
_INCONSISTENT = ("rbg", "unsafe_rbg")


class Mapped(NamedTuple):
    """The results of mapping over some leaves.

    Attributes:
        singles: one row after the other, stacked.
        inside: the gradient mapped over the rows.
        outside: the gradient of the mapped function.
    """

    singles: list
    inside: list
    outside: list


def sets_of(case: Case) -> list[tuple[int, ...]]:
    """Return the sets of leaves to map over: each alone, then all."""
    every = tuple(range(len(case.leaves)))
    return [(k,) for k in every] + ([every] if len(every) > 1 else [])


def name_of_set(case: Case, mapped: tuple[int, ...]) -> str:
    """Return a set's name: that of its leaf, or "all"."""
    return "all" if len(mapped) > 1 else case.names[mapped[0]]


def refusal(case: Case, mapped: tuple[int, ...]) -> str:
    """Return why the rows of a set cannot be expected to give what each gives alone, or nothing."""
    for k in mapped:
        leaf = case.leaves[k]
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            if str(jax.random.key_impl(leaf)) in _INCONSISTENT:
                return "keys of kind rbg draw other numbers under vmap"
        elif leaf.dtype == jnp.uint32 and leaf.shape == (4,) and _draws_by_rbg(case):
            return "keys of kind rbg draw other numbers under vmap"
    return ""


def _draws_by_rbg(case: Case) -> bool:
    text = str(jax.make_jaxpr(case.function)(*case.leaves))
    return "rng_bit_generator" in text or "rbg" in text


def run_mapped(case: Case, sets: list[tuple[int, ...]]) -> list[Mapped]:
    """Map over each set of leaves; all in one program."""
    seconds = [{k: _another(case.leaves[k]) for k in mapped} for mapped in sets]
    varying = sorted({k for mapped in sets for k in mapped if not _is_key(case.leaves[k])})
    # The case's own point, then one for each set.
    points = [case.leaves] + [
        [second.get(k, leaf) for k, leaf in enumerate(case.leaves)] for second in seconds
    ]
    stacks = {k: np.stack([np.asarray(point[k]) for point in points]) for k in varying}
    first, other = case.cotangents, case.others
    cotangents = [np.stack([a] + [b] * len(sets)) for a, b in zip(first, other, strict=True)]
    pairs = [np.stack(pair) for pair in zip(first, other, strict=True)]
    keys = {k: case.leaves[k] for k in range(len(case.leaves)) if k not in varying}

    def program(stacks, keys, cotangents, pairs):
        def row(leaves, cts):
            here = replace(case, leaves=list(leaves))
            return vjp(here.explicit, here.floats, cts)

        def single(at):
            varied, cts = at
            return row(
                [varied[k] if k in varied else keys[k] for k in range(len(case.leaves))], cts
            )

        singles = each(single, (stacks, cotangents))
        results = []
        for position, mapped in enumerate(sets):
            axes = [0 if k in mapped else None for k in range(len(case.leaves))]
            both = []
            for k in range(len(case.leaves)):
                one, two = (
                    (stacks[k][0], stacks[k][position + 1]) if k in stacks else (keys[k], keys[k])
                )
                both.append(jnp.stack([one, two]) if k in mapped else one)
            inside = jax.vmap(row, in_axes=(axes, 0))(both, pairs)
            batched = replace(case, leaves=both, function=jax.vmap(case.function, in_axes=axes))
            outside = vjp(batched.explicit, batched.floats, pairs)
            results.append((inside, outside))
        return singles, results

    singles, results = case.run(
        program, stacks, keys, cotangents, pairs, name=("vmap", tuple(sets))
    )
    return [
        Mapped([np.stack([part[0], part[k + 1]]) for part in singles], *result)
        for k, result in enumerate(results)
    ]


def judge(name: str, case: Case, mapped: tuple[int, ...], got: Mapped, loose: list) -> Check:
    """Compare the rows of one set; `loose` is what rounding may do beside each array's largest."""
    outputs, tiny = len(case.cotangents), np.finfo(np.float32).tiny
    labels = [*output_labels(case), *(f"gradient of {name}" for name in case.float_names)]
    expected = [part.astype(np.float64) for part in got.singles]
    sizes = [_largest(value) for value in expected]
    allowed = [4.0 * part * size + tiny for part, size in zip(loose, sizes, strict=True)]
    rows = [f"per-example {label}" for label in labels]
    check = compare(name, case.dtype, rows, got.inside, expected, allowed)
    if check.status == "failed":
        return check
    # Outside, an argument that is not mapped collects the gradients of all rows.
    for position, k in enumerate(case.differentiated):
        if k not in mapped:
            with np.errstate(invalid="ignore"):  # Some gradients are infinite.
                expected[outputs + position] = expected[outputs + position].sum(0)
    wholes = [f"{label} of the mapped function" for label in labels]
    sizes = [max(size, _largest(value)) for size, value in zip(sizes, expected, strict=True)]
    allowed = [4.0 * part * size + tiny for part, size in zip(loose, sizes, strict=True)]
    return compare(name, case.dtype, wholes, got.outside, expected, allowed)


def output_labels(case: Case) -> list[str]:
    """Return what messages call each output."""
    count = len(case.cotangents)
    return ["value"] if count == 1 else [f"value {k}" for k in range(count)]


def has_rules(case: Case, names: tuple[str, ...]) -> bool:
    """Return whether a primitive of one of these names occurs in the case, at any depth."""

    def look():
        try:
            jaxpr = jax.make_jaxpr(case.function)(*case.leaves)
        except Exception:
            return True
        return any(equation.primitive.name in names for equation in equations(jaxpr))

    return remembered(case.key(names), look)


def _is_key(leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _another(leaf):
    """Return other values of the same kind: the entries moved on by one, a single one shrunk."""
    if _is_key(leaf):
        return leaf
    if leaf.size == 1 and jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.asarray(0.75 * np.asarray(leaf).astype(np.float64), leaf.dtype)
    return np.roll(np.asarray(leaf), 1)


def _largest(array) -> float:
    value = np.abs(np.asarray(array).astype(np.float64))
    return float(value[np.isfinite(value)].max(initial=0.0))
