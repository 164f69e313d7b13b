"""A checkpoint: a folder of arrays and notes that is whole or not there, and tells damage.

arrays/          a tree of arrays, as Orbax writes it
notes.json       what else is to be known
manifest.sha256  the checksum of each file above, as `sha256sum --check` reads it
"""

import contextlib
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from train.errors import Refusal
from train.run_directory.files import MANIFEST, digest, rendered, synchronise

# Orbax is imported where it is used: that takes half a second, which no run should wait for before
# its first step.


class CheckpointError(Refusal):
    """One line: which file of a checkpoint is not as it was written."""


class StructureError(CheckpointError):
    """One line: which array of a whole checkpoint is not what is asked for."""


def save(folder: Path, tree: Any, notes: Mapping[str, Any]) -> None:
    """Write a checkpoint: whatever happens meanwhile, `folder` is the old one, none, or whole.

    One command at a time may write to the folder that it lies in. Of several processes of a command
    all save, each what its own devices hold of an array, and the first the rest.

    Args:
        folder: replaced where it exists.
        tree: a pytree of arrays of JAX or NumPy, none of them empty; of typed random keys, the
            key data are written.
        notes: what JSON can hold.

    Raises:
        OSError: it cannot be written, such as for want of space. Nothing is left of it, and what
            `folder` held before is still there.
    """
    import jax
    import orbax.checkpoint as ocp

    from train.engine import placement
    from train.processes import collectives

    def written(leaf: Any) -> Any:
        leaf = placement.key_data(leaf)
        return np.asarray(leaf) if placement.here(leaf) else leaf

    # What a kill leaves of these two, the next one to save removes.
    partial, replaced = (folder.absolute().with_name(name) for name in (".partial", ".replaced"))
    first = collectives.is_first()
    try:
        if first:
            shutil.rmtree(partial, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)
            partial.mkdir(parents=True)
        arrays = jax.tree.map(written, tree)
        hook = sys.unraisablehook
        sys.unraisablehook = _without_late_echoes(hook)
        logging.getLogger("asyncio").addFilter(_is_no_late_echo)
        with _quiet():
            try:
                ocp.PyTreeCheckpointer().save(partial / "arrays", arrays)
            except Exception as error:
                raise _as_os_error(error) from error
        # After an error both stay, because the tasks of the other arrays fail later still.
        sys.unraisablehook = hook
        logging.getLogger("asyncio").removeFilter(_is_no_late_echo)
        if first:
            _complete(partial, notes)
            _put(partial, folder, replaced)
    except OSError as error:
        if first:
            shutil.rmtree(partial, ignore_errors=True)
        raise OSError(f"{folder} cannot be written: {error.strerror or error}") from error
    collectives.wait()


def _complete(partial: Path, notes: Mapping[str, Any]) -> None:
    """Add the notes and the manifest to the arrays, and hand all to the disk."""
    (partial / "notes.json").write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")
    (partial / MANIFEST).write_text(rendered(_digests(partial)), encoding="utf-8")
    for path in (*partial.rglob("*"), partial):
        synchronise(path)


def _put(partial: Path, folder: Path, replaced: Path) -> None:
    """Rename a whole checkpoint to its own name; what has that name goes after it is there."""
    if folder.exists():
        folder.rename(replaced)
    try:
        partial.rename(folder)
    except OSError:
        if replaced.exists():
            replaced.rename(folder)
        raise
    synchronise(folder.absolute().parent)
    shutil.rmtree(replaced, ignore_errors=True)


def load(folder: Path, like: Any = None) -> tuple[Any, dict[str, Any]]:
    """Read a checkpoint, after its checksums are found to be right.

    Args:
        folder: what `save` wrote.
        like: a tree of arrays or `jax.ShapeDtypeStruct`s with the structure that is asked for;
            typed random keys in it, of JAX's default kind, are made of the key data.

    Returns:
        The tree and the notes. The leaves are NumPy arrays, but for typed random keys, and have
        the bits that were saved. Without `like`, the containers are dictionaries and lists.

    Raises:
        CheckpointError: a file is missing, damaged or foreign.
        StructureError: the tree is not like `like`.
    """
    notes = load_notes(folder)

    import jax
    import orbax.checkpoint as ocp

    try:
        with _quiet():
            # Of several processes each reads by itself, whether the others do or not.
            own = jax.process_index()
            alone = ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})
            handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
            checkpointer = ocp.Checkpointer(handler, multiprocessing_options=alone)
            arrays = folder.absolute() / "arrays"
            # On whichever devices they were: as NumPy's.
            structure = checkpointer.metadata(arrays).item_metadata.tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), structure)
            tree = checkpointer.restore(arrays, restore_args=as_numpy)
    except Exception as error:  # Whole, and yet not readable: another version's.
        raise CheckpointError(
            f"{folder}: Orbax {ocp.__version__} cannot read it: {' '.join(str(error).split())}"
        ) from error
    return (tree if like is None else fitted(tree, like, folder)), notes


def load_notes(folder: Path) -> dict[str, Any]:
    """Read the notes of a checkpoint alone, after all its checksums are found to be right.

    Raises:
        CheckpointError: a file is missing, damaged or foreign.
    """
    _verify(folder)
    found: dict[str, Any] = json.loads((folder / "notes.json").read_text(encoding="utf-8"))
    return found


def fitted(tree: Any, like: Any, folder: Path) -> Any:
    """Return the arrays that `load` found without a structure in that of `like`, as it does.

    Raises:
        StructureError: the names, shapes or dtypes are others; it names `folder`.
    """
    import jax

    found = {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}
    asked = jax.tree.leaves_with_path(like)
    for name in sorted(found.keys() ^ {_name(path) for path, _ in asked}):
        raise StructureError(
            f"{folder}: {name} is {'not asked for' if name in found else 'missing'}"
        )
    leaves = [_like(folder, _name(path), found[_name(path)], leaf) for path, leaf in asked]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Orbax from logging the error that it raises, with a traceback, too."""
    logger = logging.getLogger("absl")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _without_late_echoes(hook: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wrap a hook to drop the errors that Orbax's pending writes raise after one has failed."""

    def quieter(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    return quieter


def _is_no_late_echo(record: logging.LogRecord) -> bool:
    """Return False for the errors of the other arrays, which nobody waits for any more."""
    return "exception was never retrieved" not in record.getMessage()


def _as_os_error(error: Exception) -> OSError:
    """What TensorStore could not write, which surfaces as one of several other exceptions."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code:
        return OSError(int(code[1]), os.strerror(int(code[1])))
    return OSError(" ".join(str(error).split()))


def _like(folder: Path, name: str, found: Any, asked: Any) -> Any:
    """The array `found` as `asked`; raises a `StructureError` where it is another."""
    import jax

    from train.engine.placement import is_key

    expected = jax.eval_shape(jax.random.key_data, asked) if is_key(asked) else asked
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        raise StructureError(
            f"{folder}: {name} is {found.dtype} {list(found.shape)} instead of "
            f"{expected.dtype} {list(expected.shape)}"
        )
    return jax.random.wrap_key_data(found) if is_key(asked) else found


def _name(path: Any) -> str:
    import jax

    return jax.tree_util.keystr(path, simple=True, separator="/")


# --- the manifest --------------------------------------------------------------------------------


def _verify(folder: Path) -> None:
    """Raise a `CheckpointError` unless each file is as it was written."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is not a folder")
    try:
        manifest = (folder / MANIFEST).read_bytes().decode(errors="replace")
        found = _digests(folder)
    except OSError as error:
        path = error.filename or folder
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    pairs = [line.partition("  ") for line in manifest.splitlines()]
    written = {name: sum_ for sum_, _, name in pairs}
    for name in sorted(written.keys() | found.keys()):
        if name not in found:
            raise CheckpointError(f"{folder}: {name!r} is in {MANIFEST}, but missing")
        if name not in written:
            raise CheckpointError(f"{folder}: {name!r} is not in {MANIFEST}")
        if found[name] != written[name]:
            raise CheckpointError(f"{folder}: {name!r} does not have the checksum in {MANIFEST}")
    if manifest != rendered(found):
        raise CheckpointError(f"{folder}: {MANIFEST!r} is damaged")


def _digests(folder: Path) -> dict[str, str]:
    """The sha256 of each file below `folder`, but for the manifest."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() and path != folder / MANIFEST:
            found[path.relative_to(folder).as_posix()] = digest(path)
    return found
