"""The dataclass of a run whose network is a function of one's own, and what makes that network."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from train.custom_network.keywords import TRUTH, Keyword, keywords, network_class
from train.custom_network.source import UserError, blamed, of_function
from train.flags.config import Run, Source, parts

if TYPE_CHECKING:  # They need JAX, which is slow to import.
    from jaxnets.layers import Layer
    from train.engine.hyperparameters import Hyper


class OwnNetwork(NamedTuple):
    """A network of one's own, as the training commands take one.

    Attributes:
        kind: the dataclass of its runs; `kind.source` says where the code is.
        network: makes the network of a run, `network(run, hyper, classes)`.
        name: what it is called in figures and names of folders.
    """

    kind: type[Run]
    network: Callable[..., Any]
    name: str


# The runs of a function share what was compiled for them.
@functools.lru_cache(32)
def run_kind(function: Any, source: Source | None = None) -> OwnNetwork:
    """Return the dataclass of a run, whose flags are the keywords of a function, and its network.

    Args:
        function: `(classes, *, width: int = 64, rate: float = 0.1) -> Layer`; or a `Layer`, which
            has no flags.
        source: where its code is; None to find that out.

    Raises:
        ConfigError: (a `ValueError`) it does not take the number of classes, or a keyword cannot be
            a flag.
    """
    from jaxnets.layers import Layer

    if isinstance(function, Layer):
        layer = function
        return run_kind(lambda classes: layer, source or Source(f"python:{layer.name}", ""))
    if source is None:
        source = of_function(function)
    code = _Code(source, function, keywords(source.name, function))
    numbers = frozenset(name for name, found in code.keywords.items() if found.flag.traced)
    plain = "".join(c for c in source.function if c.isalnum() or c in "._") or "network"
    return OwnNetwork(_kind(code, numbers), functools.partial(_network, code), plain)


class _Code(NamedTuple):
    """The code of a network: where it is, the function, and its keywords."""

    source: Source
    function: Callable[..., Any]
    keywords: Mapping[str, Keyword]

    def build(self, classes: int, values: Mapping[str, Any]) -> "Layer":
        """Call the function with the values of its flags."""
        from jaxnets.layers import Layer

        plain = {
            name: TRUTH.get(value, value) if self.keywords[name].truth else value
            for name, value in values.items()
        }
        with blamed(self.source.name):
            layer = self.function(classes, **plain)
        if not isinstance(layer, Layer):
            kind = type(layer)
            raise UserError(
                f"{self.source.name}: must return a jaxnets.layers.Layer, and returned "
                f"{kind.__module__}.{kind.__qualname__}; of a module of Flax or Equinox, "
                f"jaxnets.adapters makes a Layer"
            )
        return layer


def _network(code: _Code, run: Run, hyper: "Hyper", classes: int) -> "Layer":
    """Return the network of a run; the numbers that are traced come from `hyper`."""
    return code.build(classes, {**vars(run.network), **(hyper.own or {})})


def _kind(code: _Code, traced: frozenset[str]) -> type[Run]:
    """Return the dataclass of a run, of whose keywords some are traced."""
    about = inspect.getdoc(code.function) or ""
    network = network_class(code.source.function, code.keywords, about, traced)

    @functools.cache  # Runs of one class share what was compiled for them.
    def less_traced(can: frozenset[str]) -> type[Run]:
        return _kind(code, can)

    def settled(cls: Any, runs: Sequence[Any], shape: tuple[int, ...], classes: int) -> Any:
        """Return the runs with those numbers traced for which the function can be called so."""
        from train.custom_network.trial import Trial

        trial = Trial(code.source.name, functools.partial(code.build, classes), shape, classes)
        can = trial.traceable(runs, traced)
        if can == traced:
            return tuple(runs)
        kind = less_traced(can)
        own = parts(kind)["network"]
        return tuple(
            kind(own(**vars(run.network)), run.data, run.training, run.output) for run in runs
        )

    namespace = {
        "__doc__": "A run of `python -m train.custom`.",
        "command": "train.custom",
        "source": code.source,
        "settled": classmethod(settled),
    }
    fields = [("network", network, network())]
    return dataclasses.make_dataclass(
        "CustomRun", fields, bases=(Run,), namespace=namespace, frozen=True
    )
