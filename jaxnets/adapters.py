"""Layers made of the modules of Flax (Linen and NNX) and of Equinox.

A function of a module's own library and one of these make a network that `train.custom` and
`train.fit` train: parameters, running statistics and dropout are those of the module, and many
networks train at once, as those of `jaxnets.layers` do. Modules of other libraries become layers
through `jaxnets.layers.adapted`.

Neither library is imported before one of these functions is called.
"""

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnets.layers import Layer, adapted

# Names that modules give to the argument that says whether they train, or evaluate.
_TRAINS = ("training", "train", "is_training")
_EVALUATES = ("deterministic", "use_running_average")


def from_linen(module: Any) -> Layer:
    """Return the layer of a module of `flax.linen`.

    Where `__call__` has an argument `training`, `train` or `is_training`, or the opposite of these,
    `deterministic` or `use_running_average`, it gets it. All collections of variables
    but "params" are state, such as the running statistics of batch norm.

    Args:
        module: the module.

    Returns:
        The layer; its key is that of the "dropout" stream, and each other stream has one of its
        own.

    Raises:
        TypeError: it is no module of Linen.

    Example:
        >>> import flax.linen as nn
        >>> layer = from_linen(nn.Dense(10))
        >>> params, state, output_shape = layer.init(jax.random.key(0), (64,))
        >>> params["kernel"].shape, output_shape
        ((64, 10), (10,))
    """
    from flax import linen

    if not isinstance(module, linen.Module):
        raise TypeError(
            f"from_linen: must be a module of flax.linen, such as from_linen(Net(width, classes)); "
            f"got {_kind(module)}{_other(module, 'from_linen')}"
        )
    call = type(module).__call__

    def init(key: jax.Array, x: jax.Array) -> tuple[Any, Any]:
        variables = dict(module.init(key, x, **_mode(call, False)))
        return variables.pop("params", {}), variables

    def apply(params: Any, state: Any, x: jax.Array, key: Any, training: bool) -> tuple[Any, Any]:
        rngs = {}
        if training and key is not None:
            rngs = {"dropout": key, "params": jax.random.fold_in(key, 0)}
        variables = {"params": params, **state}
        y, after = module.apply(
            variables, x, **_mode(call, training), rngs=rngs, mutable=list(state)
        )
        return y, dict(after)

    return adapted(type(module).__name__, init, apply)


def from_nnx(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Layer:
    """Return the layer of a module of `flax.nnx`.

    `make(*args, rngs=rngs, **kwargs)` makes it. `train()` and `eval()` of the module are called
    before it is. All variables but those of the type `nnx.Param` are state, the counts of random
    streams too: dropout takes its keys from these, not from the layer's key.

    Args:
        make: a class, or a function, with an argument `rngs`.
        *args: its other arguments.
        **kwargs: likewise, by name.

    Returns:
        The layer.

    Raises:
        TypeError: what it makes is no module of NNX; `init` raises it, or this function where it
            is given a module.

    Example:
        >>> from flax import nnx
        >>> layer = from_nnx(nnx.Linear, 64, 10)
        >>> params, state, output_shape = layer.init(jax.random.key(0), (64,))
        >>> params["kernel"].shape, output_shape
        ((64, 10), (10,))
    """
    from flax import nnx

    _check_function(make, "from_nnx")

    def split(key: jax.Array) -> tuple[Any, ...]:
        """Make a module; return its structure, what it learns, and its state."""
        module = make(*args, rngs=nnx.Rngs(key), **kwargs)
        if not isinstance(module, nnx.Module):
            raise _wrong_module(module, "from_nnx", "flax.nnx")
        return tuple(nnx.split(module, nnx.Param, ...))

    def init(key: jax.Array, x: jax.Array) -> tuple[Any, Any]:
        _, params, state = split(key)
        return params, state

    def apply(params: Any, state: Any, x: jax.Array, key: Any, training: bool) -> tuple[Any, Any]:
        structure, _, _ = split(jax.random.key(0))  # The same for every key.
        module = nnx.merge(structure, params, state, copy=True)
        if training:
            module.train()
        else:
            module.eval()
        y = module(x, **_mode(type(module).__call__, training))
        return y, nnx.state(module, nnx.Not(nnx.Param))

    return adapted(_name(make), init, apply)


def from_equinox(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Layer:
    """Return the layer of a module of Equinox.

    `make(*args, key=key, **kwargs)` makes it. It computes one example, under a `jax.vmap` whose
    axis is called "batch": the `axis_name` of an `equinox.nn.BatchNorm`. Where `__call__` has an
    argument `key`, each example gets a key when training; where it has an argument `state`, it gets
    the state after x, and returns the output and the new state. It evaluates in
    `equinox.nn.inference_mode`.

    Parameters are the arrays of floats in the module. A number of `args` or `kwargs` is none, even
    where training traces it to train many values at once.

    Args:
        make: a class, or a function, with an argument `key`.
        *args: its other arguments.
        **kwargs: likewise, by name.

    Returns:
        The layer.

    Raises:
        TypeError: what it makes is no module of Equinox; `init` raises it, or this function where
            it is given a module.

    Example:
        >>> import equinox as eqx
        >>> layer = from_equinox(eqx.nn.MLP, 64, 10, width_size=32, depth=1)
        >>> params, state, output_shape = layer.init(jax.random.key(0), (64,))
        >>> params.layers[0].weight.shape, output_shape
        ((32, 64), (10,))
    """
    import equinox as eqx

    _check_function(make, "from_equinox")

    split = functools.partial(_split_equinox, make, args, kwargs)

    def init(key: jax.Array, x: jax.Array) -> tuple[Any, Any]:
        params, _, state, _ = split(key)
        return params, state

    def apply(params: Any, state: Any, x: jax.Array, key: Any, training: bool) -> tuple[Any, Any]:
        _, rest, _, structure = split(jax.random.key(0))
        module = eqx.combine(params, rest)
        if not training:
            module = eqx.nn.inference_mode(module)
        keys = jax.random.split(key, len(x)) if training and key is not None else None
        call = functools.partial(_call_equinox, module)
        batched = jax.vmap(call, (0, 0, None), (0, None), axis_name="batch")
        y, after = batched(x, keys, jax.tree.unflatten(structure, state))
        return y, jax.tree.leaves(after)

    return adapted(_name(make), init, apply)


def _split_equinox(make: Any, args: Any, kwargs: Any, key: jax.Array) -> tuple[Any, ...]:
    """Make a module; return what it learns, the rest, its state, and the state's structure."""
    import equinox as eqx

    with_state = eqx.nn.make_with_state(make)
    module, state = with_state(*args, key=key, **kwargs)
    if not isinstance(module, eqx.Module):
        raise _wrong_module(module, "from_equinox", "Equinox")
    # As arrays, numbers would count as parameters.
    plain, _ = with_state(*_plain(args), key=key, **_plain(kwargs))
    params, rest = eqx.partition(module, jax.tree.map(eqx.is_inexact_array, plain))
    leaves, structure = jax.tree.flatten(state)
    return params, rest, leaves, structure


def _call_equinox(module: Any, x: jax.Array, key: Any, state: Any) -> tuple[Any, Any]:
    """Return the output for one example, and the state after it."""
    known = inspect.signature(type(module).__call__).parameters
    with_key = {"key": key} if "key" in known else {}
    # A module such as `equinox.nn.Sequential` has a default that stands for no state.
    required = "state" in known and known["state"].default is inspect.Parameter.empty
    if required or ("state" in known and jax.tree.leaves(state)):
        y, state = module(x, state, **with_key)
        return y, state
    return module(x, **with_key), state


def _mode(call: Callable[..., Any], training: bool) -> dict[str, Any]:
    """Return the arguments of a call that say whether the module trains."""
    known = inspect.signature(call).parameters
    found = {name: training for name in _TRAINS if name in known}
    return found | {name: not training for name in _EVALUATES if name in known}


def _plain(tree: Any) -> Any:
    """Return arguments with a float in the place of each real number that is an array."""

    def plain(leaf: Any) -> Any:
        number = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return 0.5 if number and leaf.ndim == 0 else leaf

    return jax.tree.map(plain, tree)


def _check_function(make: Any, function: str) -> None:
    """Raise a `TypeError` unless it is what makes a module, not a module."""
    library = _library(make)
    if library is None and callable(make):
        return
    hint = _other(make, function)
    if library == function:
        hint = ", whose parameters are drawn already, the same ones for every seed"
    raise TypeError(
        f"{function}: must be a class, such as in {function}(Net, width, classes); got "
        f"{_kind(make)}{hint}"
    )


def _wrong_module(found: Any, function: str, library: str) -> TypeError:
    return TypeError(
        f"{function}: must make a module of {library}; got {_kind(found)}{_other(found, function)}"
    )


def _other(found: Any, function: str) -> str:
    """Return a hint at the function that is meant, where a module is one of another library."""
    library = _library(found)
    return "" if library in (None, function) else f", which is for {library}"


def _library(found: Any) -> str | None:
    """Return the function here that takes such a module; None where it is no module."""
    for function, package in (
        ("from_linen", "flax.linen"),
        ("from_nnx", "flax.nnx"),
        ("from_equinox", "equinox"),
    ):
        module = sys.modules.get(package)  # Where it is not imported, nothing can be of it.
        if module is not None and isinstance(found, module.Module):
            return function
    return None


def _kind(found: Any) -> str:
    if isinstance(found, type):
        return f"the class {found.__name__} itself"
    name = type(found).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def _name(make: Callable[..., Any]) -> str:
    name = getattr(make, "__name__", "")
    return name if name.isidentifier() else "module"
