"""A run, and what makes its network, out of what config.json says.

Code that config.json names is never imported because it does: only the commands of this project,
and what the user names.
"""

import importlib
import shlex
from collections.abc import Callable
from typing import Any, NamedTuple

from train.data.sources import data_folder
from train.errors import ConfigError, StoreError
from train.flags.config import R, Run, Source, declared, flags, replaced
from train.flags.constraints import check_together
from train.run_directory import stored_config
from train.run_directory.manifest import CONFIG
from train.run_directory.reader import Results


class Made(NamedTuple):
    """What makes a network: the dataclass of its run, and a function, see `engine.assembly`."""

    kind: type[Run]
    network: Any


def made(results: Results, own: str | Callable[..., Any] | None = None) -> Made:
    """Return what made the networks of a run directory.

    Args:
        results: the run directory.
        own: of a run of train.custom, the function of its network, or where that is.

    Raises:
        StoreError: it was trained with a network of one's own, and `own` is not that, or the source
            has changed; the code is not imported then.
        Refusal: `own` is not found, or no network.
    """
    config = results.config
    if config.source is None:
        if own is not None:
            raise StoreError(
                f"{results.path} is a run of python -m {config.command}: leave --network out"
            )
        return Made(
            stored_config.COMMANDS[config.command], importlib.import_module(config.command).network
        )
    if own is None:
        raise StoreError(
            f"{results.path} was trained with code, which is run only where you name it: add "
            f"--network {shlex.quote(config.source.name)}"
        )
    from train.custom_network import named, run_kind
    from train.engine.devices import set_up

    def check(now: Source) -> None:
        stored_config.check_source(results.path, config.source, now)

    if isinstance(own, str):
        set_up()  # The code may compute while it is imported.
        source, function = named(own, check)
        found = run_kind(function, source)
    else:
        found = run_kind(own)
        assert found.kind.source is not None
        check(found.kind.source)
    return Made(found.kind, found.network)


def run(results: Results, index: int, kind: type[R]) -> R:
    """Return a run.

    Args:
        results: the run directory.
        index: which run.
        kind: the dataclass of a run of its command.

    Raises:
        StoreError: config.json does not have all its flags, or they do not go together.
    """
    found = results.runs[index]
    base, known = kind(), declared(kind)
    try:
        for name in flags(base).keys() - found.keys() - {"out", "resume", "tensorboard"}:
            if known[name].before is ...:
                raise ConfigError(f"{name}: is missing")
            found = {**found, name: known[name].before}
        stored_config.check_flags(found.items(), kind)
        check_together({name: (v,) for name, v in {**flags(base), **found}.items()}, known)
        if found["folds"] is not None and found["fold"] not in range(found["folds"]):
            raise ConfigError(f"fold {found['fold']}: is none of {found['folds']}")
    except ConfigError as error:
        raise StoreError(f"{results.path / CONFIG} is damaged: {error}") from error
    # The folder may be one of another machine; the fingerprint tells whether the data are others.
    folder = data_folder(found["data_dir"])
    return replaced(base, {**found, "data_dir": folder if folder.is_dir() else None})
