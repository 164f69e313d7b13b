"""A network of one's own, tried on shapes alone before anything is computed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxnets.layers import Layer, weights
from train.custom_network.source import UserError, blamed
from train.flags.config import Run

# Makes a network of its keywords.
Build = Callable[[Mapping[str, Any]], Layer]

_BATCH = 2


class Trial:
    """Tries networks on examples of a shape."""

    def __init__(self, name: str, build: Build, shape: tuple[int, ...], classes: int):
        """Remember what to try.

        Args:
            name: of the function, as messages show it.
            build: makes the network.
            shape: of an example.
            classes: how many there are.
        """
        self._name, self._build, self._shape, self._classes = name, build, shape, classes

    def traceable(self, runs: Sequence[Run], numbers: frozenset[str]) -> frozenset[str]:
        """Return the keywords whose values can be traced in all runs.

        Args:
            runs: the runs.
            numbers: the keywords that are real numbers.

        Raises:
            UserError: a network cannot be made or trained, whatever is traced.
        """
        can = numbers
        for run in _shapes(runs, numbers):
            can &= self._traceable(run, can)
        if can != numbers:
            for run in _shapes(runs, can):
                self._check(run, can)
        return can

    def _traceable(self, run: Run, numbers: frozenset[str]) -> frozenset[str]:
        if self._works(run, numbers):
            return numbers
        self._check(run, frozenset())
        alone = frozenset(name for name in numbers if self._works(run, frozenset({name})))
        return alone if alone and self._works(run, alone) else frozenset()

    def _works(self, run: Run, traced: frozenset[str]) -> bool:
        try:
            self._check(run, traced)
        except UserError:
            return False
        return True

    def _check(self, run: Run, traced: frozenset[str]) -> None:
        """Raise a `UserError` unless a network can be made and trained; nothing is computed."""
        values = vars(run.network)
        numbers = {
            name: jax.ShapeDtypeStruct((), jnp.float32)
            for name in traced
            if values[name] is not None
        }
        l2, precision = run.training.l2, run.training.precision
        key = jax.eval_shape(lambda: jax.random.key(0))
        output: Any = None

        def init(numbers: Any, key: Any) -> Any:
            nonlocal output
            params, state, output = self._build({**values, **numbers}).init(key, self._shape)
            return params, state

        with blamed(self._name):
            params, state = jax.eval_shape(init, numbers, key)
        for path, leaf in jax.tree.leaves_with_path(params):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                place = jax.tree_util.keystr(path)
                raise self._error(
                    f"params{place} of init is {leaf.dtype}, which has no gradient; init must "
                    f"return it as a part of the state"
                )
        if l2 and not weights(params):
            raise self._error(
                f'--l2 {l2:g} counts the parameters called "weight", and there are none; leave '
                f"--l2 out, or take --optimizer adamw --weight-decay"
            )
        self._check_output("output_shape of init", output, (self._classes,))
        # A network of its own, as the compiled programs make one: none may remember the other.
        self._check_apply(values, numbers, params, state, key, jnp.dtype(precision))

    def _check_apply(
        self, values: Mapping[str, Any], numbers: Any, params: Any, state: Any, key: Any, dtype: Any
    ) -> None:
        x = jax.ShapeDtypeStruct((_BATCH, *self._shape), dtype)

        def apply(numbers: Any, params: Any, state: Any, key: Any, x: Any) -> Any:
            layer = self._build({**values, **numbers})

            def loss(params: Any) -> Any:
                cast = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
                logits, after = layer.apply(cast, state, x, key=key, training=True)
                return jnp.sum(logits.astype(jnp.float32)), (logits, after)

            gradient, (logits, after) = jax.grad(loss, has_aux=True)(params)
            cast = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
            return gradient, logits, after, layer.apply(cast, state, x)[0]

        with blamed(self._name):
            _, logits, after, tested = jax.eval_shape(apply, numbers, params, state, key, x)
        for found in (logits, tested):
            self._check_output("y of apply", found.shape, (_BATCH, self._classes))
        was, now = (_leaves(tree) for tree in (state, after))
        if was != now:
            differs = next(((a, b) for a, b in zip(was, now, strict=False) if a != b), None)
            said = f": {differs[1]} after {differs[0]}" if differs else ""
            raise self._error(f"apply must return a state like that of init{said}")

    def _check_output(self, what: str, found: Any, wanted: tuple[int, ...]) -> None:
        if tuple(found) != wanted:
            raise self._error(
                f"{what} is {list(found)}, and must be {list(wanted)}: a number for each of the "
                f"{self._classes} classes"
            )

    def _error(self, line: str) -> UserError:
        return UserError(f"{self._name}: {line}")


def _shapes(runs: Sequence[Run], traced: frozenset[str]) -> list[Run]:
    """Return a run of each shape, as far as a network may tell them apart."""
    found: dict[Any, Run] = {}
    for run in runs:
        values = vars(run.network).items()
        shape = tuple((n, v) for n, v in values if n not in traced or v is None)
        training = run.training
        found.setdefault((shape, training.precision, training.l2 > 0), run)
    return list(found.values())


def _leaves(tree: Any) -> list[str]:
    """Return the leaves of a tree with their place, dtype and shape."""
    return [
        f"{jax.tree_util.keystr(path)} {leaf.dtype} {list(leaf.shape)}"
        for path, leaf in jax.tree.leaves_with_path(tree)
    ]
