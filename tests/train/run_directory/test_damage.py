"""Every file of a run directory, damaged in every way, and every command that reads it.

A command refuses in one line and changes nothing, or its numbers are those of the whole directory;
and whatever was trained is still there.
"""

import hashlib
import json
import os
import random
import shutil
import signal

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from train import compare, mlp
from train.engine import segments
from train.evaluate import __main__ as evaluate
from train.report import figures, progress
from train.run_directory import checkpoint_manager

# Two groups with two runs each, one of which diverges.
SWEEP = [
    *("--hidden", "6", "5", "--learning-rate", "0.003", "1e30", "--optimizer", "momentum"),
    *("--steps", "40", "--eval-every", "20", "--batch-size", "64"),
]
ALONE = ["--hidden", "6", "--steps", "20", "--eval-every", "10", "--batch-size", "64"]

DAMAGES = [
    "bit", "digit", "key", "cut", "empty", "zeros", "deleted", "directory", "foreign", "link",
    "pipe",
]  # fmt: skip
DIRECTORIES = ("alone", "sweep", "stopped")
OUTCOMES = ("refused", "said", "unaffected")
COMMANDS = ("compare", "evaluate", "resume")


@pytest.fixture(scope="module", autouse=True)
def surroundings(tmp_path_factory):
    """What the commands need of JAX's defaults; short segments, and no time spent on figures.

    Each program is compiled once.
    """
    options = {
        "jax_enable_compilation_cache": True,
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("cache")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        for name in ("curves", "bands"):
            patch.setattr(figures, name, lambda runs, path, *rest: path.write_bytes(b"a figure"))
        patch.setattr(figures, "mistakes", lambda *arguments: None)
        patch.setattr(segments, "LONGEST_SEGMENT", 10)
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def make(folder):
    """The run directories, and others like them to take foreign files from."""
    for name, command in (("alone", ALONE), ("sweep", SWEEP)):
        assert mlp.main([*command, "--out", str(folder / name)]) == 0
        assert mlp.main([*command, "--seed", "1", "--out", str(folder / f"other-{name}")]) == 0
    # As an earlier version left it.
    (shutil.copytree(folder / "sweep", folder / "old") / "manifest.sha256").unlink()
    advance, seen = progress.Progress.advance, []

    def advanced(self, *arguments):
        seen.append(arguments)
        if len(seen) == 7:  # Of the second group.
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_manager, "SHARE", float("inf"))
        patch.setattr(progress.Progress, "advance", advanced)
        assert mlp.main([*SWEEP, "--out", str(folder / "stopped")]) == 143
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("runs"))


def files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def content(folder):
    """What is in a folder: nothing of a file with this sum has changed."""
    return {
        str(path): hashlib.sha256((folder / path).read_bytes()).hexdigest()
        for path in files(folder)
    }


def cases(made, directories, command):
    """Every file of the directories with every damage."""
    return [
        (name, str(path), damage, command)
        for name in directories
        for path in files(made / name)
        for damage in DAMAGES
    ]


def damage(folder, other, name, kind, chance):
    """Damage a file; return whether that changed anything."""
    path = folder / name
    before = path.read_bytes()
    changed = bytearray(before)
    if kind == "bit" and before:
        changed[chance.randrange(len(before))] ^= 1 << chance.randrange(8)
    elif kind == "digit":
        places = [i for i, byte in enumerate(before) if chr(byte) in "0123456789"]
        if places:
            changed[chance.choice(places)] = ord(chance.choice("0123456789"))
    elif kind == "key":
        quotes = [i for i, byte in enumerate(before) if byte == ord('"')]
        if quotes:
            changed[chance.choice(quotes) - 1] = ord("x")
    elif kind == "cut":
        changed = changed[: chance.randrange(len(before))]
    elif kind == "empty":
        changed = bytearray()
    elif kind == "zeros":
        changed = bytearray(len(before))
    elif kind == "foreign":
        changed = bytearray((other / name).read_bytes()) if (other / name).is_file() else changed
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        (folder.parent / "elsewhere").write_bytes(before)
        path.symlink_to(folder.parent / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "deleted":
        path.write_bytes(changed)
        return changed != before
    return True


def run(command, folder, out):
    """The exit status of a command, and the numbers that it gives."""
    out.mkdir(exist_ok=True)
    if command == "compare":
        status = compare.main([str(folder), "--out", str(out / "compare.png")])
        numbers = [] if status else json.loads((out / "compare.json").read_text())["rows"]
        for row in numbers:
            del row["run_directory"]
            row["dataset"] = row["dataset"]["fingerprint"]  # Only summary.json says more of it.
    elif command == "evaluate":
        status = evaluate.main([str(folder), "--out", str(out)])
        numbers = {} if status else json.loads((out / "evaluation.json").read_text())
        numbers.pop("run_directory", None)
    else:
        status = mlp.main(["--resume", str(folder)])
        numbers = (
            []
            if status
            else [
                json.loads((folder / "summary.json").read_text())["rows"],
                [
                    {name: value for name, value in json.loads(line).items() if name != "seconds"}
                    for line in (folder / "metrics.jsonl").read_text().splitlines()
                ],
            ]
        )
    return status, numbers


class Trial:
    """Damages copies of run directories, and looks at what the commands do."""

    def __init__(self, made, scratch):
        self.made, self.scratch = made, scratch
        self.expected = {}

    def whole(self, name, command):
        """What a command does with the directory as it is."""
        if (name, command) not in self.expected:
            folder = shutil.copytree(self.made / name, self.scratch / "whole" / name)
            self.expected[name, command] = run(command, folder, self.scratch / "out")
            shutil.rmtree(self.scratch / "whole")
        return self.expected[name, command]

    def __call__(self, case, capfd):
        """Return "unaffected", "refused", "made anew", or what is wrong."""
        name, file, kind, command, *_ = case
        whole = self.whole(name, command)
        folder = self.scratch / "run" / name
        shutil.rmtree(folder.parent, ignore_errors=True)
        shutil.copytree(self.made / name, folder)
        chance = random.Random(str(case))
        other = self.made / ("other-alone" if name == "alone" else "other-sweep")
        damage(folder, other, file, kind, chance)
        before = None if kind == "pipe" else content(folder)
        elsewhere = folder.parent / "elsewhere"
        linked = elsewhere.read_bytes() if elsewhere.exists() else None
        capfd.readouterr()
        status, numbers = run(command, folder, self.scratch / "out")
        said = capfd.readouterr()
        if "Traceback" in said.err + said.out:
            return f"traceback: {said.err}"
        if linked is not None and elsewhere.read_bytes() != linked:
            return "wrote through a link"
        after = None if kind == "pipe" else content(folder)
        if status:
            *warnings, last = said.err.splitlines()
            if status not in (1, 2) or not last.startswith(("error: ", "terminated")):
                return f"status {status}: {said.err}"
            if warnings and not all(line.startswith("warning: ") for line in warnings):
                return f"several lines: {said.err}"
            return "refused" if after == before else "refused, and changed something"
        if (status, numbers) != whole:
            return f"other numbers{said.err and f': {said.err}'}"
        if before is not None:
            trained = {s for path, s in before.items() if path.startswith("parameters")}
            if not trained <= set(after.values()):
                return "lost what was trained"
        if command == "resume" and run("compare", folder, self.scratch / "out")[0]:
            return "not whole afterwards"
        return "said" if "warning: " in said.err else "unaffected"


@pytest.fixture
def trial(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Trial(made, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_damage_is_refused_or_changes_no_number(made, trial, command, capfd):
    chance = random.Random(0)
    found = cases(made, DIRECTORIES, command)
    of_its_own = [case for case in found if "/" not in case[1]]
    below = [case for case in found if "/" in case[1]]
    many = command == "compare"  # The others take a second each.
    chosen = chance.sample(of_its_own, 60 if many else 25) + chance.sample(below, 20 if many else 8)
    assert not {case: what for case in chosen if (what := trial(case, capfd)) not in OUTCOMES}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_manifest_damage_ends_in_one_line_at_worst(made, trial, command, capfd):
    """There is nothing to hold the files to, as in a directory of an earlier version."""
    chance = random.Random(1)
    names = ("config.json", "summary.json", "metrics.jsonl")
    found = [case for case in cases(made, ("old",), command) if case[1] in names]
    several = [(*case, number) for case in found for number in range(20)]
    chosen = chance.sample(several, 250 if command == "compare" else 15)
    allowed = (*OUTCOMES, "other numbers")
    assert not {case: what for case in chosen if (what := trial(case, capfd)) not in allowed}
