import asyncio
import contextlib
import errno
import gc
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest

from train.run_directory import checkpoint
from train.run_directory.checkpoint import MANIFEST, CheckpointError, StructureError, load, save


class State(NamedTuple):
    key: jax.Array
    params: Any
    rest: Any


def tree():
    """Every kind of leaf and container that a run has, and bits that copying may lose."""
    keys = jnp.stack([jax.random.key(seed) for seed in (1, 2)])
    odd = np.array([np.nan, -np.nan, -0.0, np.inf, 1e-45], np.float32)
    odd.view(np.uint32)[0] += 5  # A NaN that says something.
    params = [{"weight": jnp.full((3, 4), -0.0), "bias": odd}, {}, (jnp.ones(2, jnp.bfloat16),)]
    return State(keys, params, {"count": np.int32(7), "loss": np.array([0.1]), "none": None})


def bits(leaf):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "one"
    save(folder, tree(), {"step": 3, "loss": 0.1})
    return folder


@pytest.fixture
def saved(saved_once, tmp_path):
    """A copy to damage."""
    return shutil.copytree(saved_once, tmp_path / "one")


@pytest.mark.parametrize("abstract", [False, True])
def test_what_is_loaded_is_what_was_saved_bit_for_bit(saved_once, abstract):
    like = tree()
    if abstract:
        like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), like)
    found, notes = load(saved_once, like)
    assert notes == {"step": 3, "loss": 0.1}
    assert jax.tree.structure(found) == jax.tree.structure(tree())
    assert list(map(bits, jax.tree.leaves(found))) == list(map(bits, jax.tree.leaves(tree())))
    a, b = (jax.random.normal(state.key[1], (3,)) for state in (found, tree()))
    assert a.tolist() == b.tolist()


def test_without_a_structure_the_containers_are_dictionaries_and_lists(saved_once):
    found, _ = load(saved_once)
    assert set(found) == {"key", "params", "rest"}
    assert found["params"][1] == {}
    assert found["rest"]["none"] is None
    assert found["key"].dtype == np.uint32
    assert bits(found["params"][2][0]) == bits(tree().params[2][0])
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))


def test_the_manifest_is_what_sha256sum_reads(saved_once):
    command = ["sha256sum", "--check", "--strict", "--quiet", MANIFEST]
    subprocess.run(command, cwd=saved_once, check=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.rest.pop("count"), "rest/count is not asked for"),
        (lambda t: t.rest.update(more=np.zeros(1)), "rest/more is missing"),
        (
            lambda t: t.params[0].update(weight=np.zeros((3, 5), np.float32)),
            r"params/0/weight is float32 \[3, 4\] instead of float32 \[3, 5\]",
        ),
        (
            lambda t: t.rest.update(loss=np.zeros(1, np.float32)),
            r"rest/loss is float64 \[1\] instead of float32 \[1\]",
        ),
    ],
)
def test_another_structure_is_refused_by_name(saved_once, change, message):
    like = tree()
    change(like)
    with pytest.raises(StructureError, match=message) as error:
        load(saved_once, like)
    assert "\n" not in str(error.value)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def refused(folder, name):
    """That loading says which file is wrong, in one line."""
    with pytest.raises(CheckpointError) as error:
        load(folder, tree())
    message = str(error.value)
    assert message.startswith(f"{folder}")
    assert "\n" not in message
    assert name in message


def flip(content, bit):
    content = bytearray(content)
    content[bit // 8] ^= 1 << (bit % 8)
    return bytes(content)


DAMAGES = {
    "first bit": lambda content: flip(content, 0),
    "middle bit": lambda content: flip(content, 8 * (len(content) // 2) + 5),
    "last bit": lambda content: flip(content, 8 * len(content) - 1),
    "truncated": lambda content: content[:-1],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"\n",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_of_any_file_is_found_and_named(saved, damage):
    for path in files(saved):
        content = path.read_bytes()
        path.write_bytes(DAMAGES[damage](content))
        # Damage to the manifest may seem to be that of the file in the line that it hits.
        refused(saved, "" if path.name == MANIFEST else repr(path.relative_to(saved).as_posix()))
        path.write_bytes(content)
    load(saved, tree())


@pytest.mark.slow
def test_any_bit_of_the_manifest_counts(saved, monkeypatch):
    digests = checkpoint._digests(saved)
    monkeypatch.setattr(checkpoint, "_digests", lambda folder: digests)  # Takes its time.
    path = saved / MANIFEST
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        path.write_bytes(flip(content, bit))
        with pytest.raises(CheckpointError):
            checkpoint._verify(saved)


def test_a_file_too_few_or_too_many_is_found(saved):
    for path in files(saved):
        content = path.read_bytes()
        path.unlink()
        refused(saved, path.name)
        path.write_bytes(content)
    (saved / "arrays" / "more").touch()
    refused(saved, "'arrays/more'")


def test_what_is_no_checkpoint_is_refused(tmp_path):
    refused(tmp_path / "absent", "is not a folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", MANIFEST)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes").write_text("mine")
    refused(tmp_path / "foreign", MANIFEST)
    (tmp_path / "foreign" / MANIFEST).mkdir()
    refused(tmp_path / "foreign", MANIFEST)


def test_a_file_that_changes_while_it_is_read_is_refused_too(saved, monkeypatch):
    monkeypatch.setattr(checkpoint, "_verify", lambda folder: None)
    for path in files(saved / "arrays"):
        path.write_bytes(b"")
    refused(saved, "Orbax")


# --- saving --------------------------------------------------------------------------------------


def test_saving_replaces_the_whole_folder(saved):
    (saved / "arrays" / "more").touch()
    save(saved, {"x": np.arange(3)}, {})
    found, notes = load(saved)
    assert found["x"].tolist() == [0, 1, 2]
    assert notes == {}
    assert [path.name for path in saved.parent.iterdir()] == ["one"]


def test_a_name_without_a_folder_is_in_the_working_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(Path("one"), {"x": np.arange(3)}, {})
    assert load(Path("one"))[0]["x"].tolist() == [0, 1, 2]


class Stopped(BaseException):
    """The end of the process, as it were."""


SYSTEM_CALLS = [(Path, "mkdir"), (os, "fsync"), (Path, "rename"), (shutil, "rmtree")]


def test_stopped_at_any_moment_it_leaves_the_old_the_new_or_none(saved, monkeypatch):
    """Before each of the calls that change the disk, one after the other."""
    found = set()
    for moment in range(1000):
        calls = 0

        def counted(original, moment=moment):
            def call(*arguments, **options):
                nonlocal calls
                calls += 1
                if calls == moment + 1:
                    raise Stopped
                return original(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for owner, name in SYSTEM_CALLS:
                patch.setattr(owner, name, counted(getattr(owner, name)))
            with contextlib.suppress(Stopped):
                save(saved, {"moment": np.int32(moment)}, {})
        if not saved.exists():
            found.add("none")
        else:
            value = load(saved)[0].get("moment")
            found.add("new" if value == moment else "old")
        if calls <= moment:
            break
    assert found == {"old", "none", "new"}
    assert [path.name for path in saved.parent.iterdir()] == ["one"]


@pytest.mark.slow
def test_without_space_nothing_is_left_and_the_old_one_stays(tmp_path):
    """A process whose files may have 20 kB takes the place of a full disk."""
    script = """
import resource, signal, sys, pathlib, numpy as np
from train.run_directory.checkpoint import load, save
folder = pathlib.Path(sys.argv[1])
save(folder / "one", {"x": np.arange(3)}, {})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise = np.random.default_rng(0).random(10_000)
for name, tree, notes in [("one", {"x": noise}, {}), ("two", {"x": 1.0}, {"x": "x" * 30_000})]:
    try:
        save(folder / name, tree, notes)
    except OSError as error:
        print(error)
assert load(folder / "one")[0]["x"].tolist() == [0, 1, 2]
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{tmp_path / name} cannot be written: File too large" for name in ("one", "two")
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@pytest.mark.slow
def test_an_error_of_the_disk_is_one_line_and_nothing_beside_it(tmp_path, monkeypatch, caplog):
    """Whatever the tasks of the other arrays have to say, which fail too."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # What it was, afterwards.
    quiet = logging.getLogger("asyncio")
    monkeypatch.setattr(quiet, "filters", list(quiet.filters))

    async def write():
        raise ValueError("Error writing: os_error_code='5'")

    async def write_all():
        tasks = [asyncio.create_task(write()) for _ in range(3)]
        await asyncio.sleep(0.01)
        await tasks[0]

    class Checkpointer:
        def save(self, *arguments):
            asyncio.run(write_all())

    monkeypatch.setattr(orbax.checkpoint, "PyTreeCheckpointer", Checkpointer)
    with pytest.raises(OSError, match=r"one cannot be written: Input/output error$"):
        save(tmp_path / "one", {"x": np.arange(3)}, {})
    gc.collect()
    assert caplog.records == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize(("owner", "name"), [(Path, "rename"), (os, "fsync"), (os, "rename")])
def test_whatever_the_system_refuses_the_old_one_stays(saved, monkeypatch, code, owner, name):
    original = getattr(owner, name)

    def fails(*arguments, **options):
        if name == "fsync" or any(".partial" in str(path) for path in arguments):
            raise OSError(code, os.strerror(code))
        return original(*arguments, **options)

    before = {path: path.read_bytes() for path in files(saved)}
    monkeypatch.setattr(owner, name, fails)
    with pytest.raises(OSError, match=f"cannot be written: {os.strerror(code)}$"):
        save(saved, {"x": np.arange(3)}, {})
    assert {path: path.read_bytes() for path in files(saved)} == before
    assert [path.name for path in saved.parent.iterdir()] == ["one"]


def test_notes_are_readable(saved_once):
    assert json.loads((saved_once / "notes.json").read_text()) == {"step": 3, "loss": 0.1}


def test_the_error_of_a_library_is_that_of_the_system():
    error = checkpoint._as_os_error(ValueError(f"a [os_error_code='{errno.ENOSPC}'] b"))
    assert (error.errno, error.strerror) == (errno.ENOSPC, os.strerror(errno.ENOSPC))
    own = OSError(errno.EIO, "a")
    assert checkpoint._as_os_error(own) is own
    other = checkpoint._as_os_error(OSError("a\n b"))
    assert (other.errno, str(other)) == (None, "a b")


def test_folders_above_are_made(tmp_path):
    save(tmp_path / "a" / "b" / "c", {"x": np.ones(2)}, {})
    assert load(tmp_path / "a" / "b" / "c")[0]["x"].tolist() == [1, 1]
