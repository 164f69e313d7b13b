"""Change the code in one place at a time, and see whether a test fails.

    python -m tests.benchmarks.survivors train/metrics.py train/flags/sweep.py
    python -m tests.benchmarks.survivors train/engine --most 40
    python -m tests.benchmarks.survivors --since main

A change that no test notices has survived: a test is missing, the code is not needed, or the change
makes no difference. The changes are those of cosmic-ray: another number, comparison, sign or
operator, False for True, a loop without a turn, a function without its decorator. [tool.survivors]
in pyproject.toml says which of them, and how long the tests of one may take; survivors.toml beside
this file says which tests a module has, and which changes make no difference, and why. Tests marked
`slow` are left out where they are not named one by one. What takes too long has not survived.

Nothing in the working folder changes: a copy does. Each change is tried in a process that is forked
from one that has imported what is slow, where a new process would take most of the time to begin.
"""

import argparse
import ast
import contextlib
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]

# What is slow to import, and does not begin a thread or look for a device by that.
SLOW = (
    "array_record.python.array_record_module", "chex", "equinox", "flax.nnx", "hypothesis", "jax",
    "jax.experimental", "jax.numpy", "matplotlib.figure", "numpy", "optax", "optax.contrib",
    "orbax.checkpoint", "pandas", "psutil", "pyarrow.parquet", "pytest", "rich", "rich.progress",
    "rich.table", "scipy.special", "sklearn.model_selection", "sklearn.utils.estimator_checks",
    "tensorboardX", "tensorflow_datasets", "tyro",
)  # fmt: skip


class Mutant(NamedTuple):
    """A change: the file and the line, what the line was and what it becomes, and the new file."""

    path: str
    line: int
    before: str
    after: str
    content: str


def settings() -> dict[str, Any]:
    """Return what pyproject.toml and survivors.toml say."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    modules = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return found["tool"]["survivors"] | tomllib.loads(modules)


def places(content: str, operators: Sequence[str]) -> list[tuple[str, int]]:
    """Return the places that these operators of cosmic-ray, regular expressions, change in a text.

    Each is the name of an operator, and how many of its places come before.
    """
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    nodes, found = list(ast_nodes(get_ast(content))), []
    for name in plugins.operator_names():
        if any(re.fullmatch(operator, name.partition("/")[2]) for operator in operators):
            operator = plugins.get_operator(name)()
            several = sum(len(list(operator.mutation_positions(node))) for node in nodes)
            found += [(name, occurrence) for occurrence in range(several)]
    return found


def mutant(path: str, content: str, name: str, occurrence: int) -> Mutant | None:
    """Return the change that an operator makes at a place of a file; None where it is none."""
    from cosmic_ray import plugins
    from cosmic_ray.mutating import mutate_code

    changed = mutate_code(content, plugins.get_operator(name)(), occurrence)
    try:
        if ast.dump(ast.parse(changed)) == ast.dump(ast.parse(content)):  # 1e38 + 1 is 1e38.
            return None
    except SyntaxError:  # The stars before an argument are no operator.
        return None
    lines, others = content.splitlines(), changed.splitlines()
    pairs = enumerate(zip(lines, others, strict=False))
    number = next((n for n, (a, b) in pairs if a != b), len(lines) - 1)
    before, after = lines[number].strip(), others[number].strip()
    if "__name__ ==" in before or "TYPE_CHECKING" in before:
        return None
    return Mutant(path, number + 1, before, after, changed)


def drawn(
    path: str, lines: set[int] | None, most: int | None, known: dict[str, Any]
) -> Iterator[Mutant]:
    """Yield the changes of a file: all, or so many at most, drawn evenly.

    Args:
        path: the file.
        lines: those that are changed; None for all.
        most: how many changes.
        known: the settings: operators, and changes that make no difference.
    """
    content = (ROOT / path).read_text(encoding="utf-8")
    same = {(of["path"], of["before"], of["after"]) for of in known.get("equivalent", ())}
    every = places(content, known["operators"])
    parts = len(every) if most is None else min(most, len(every))
    for part in range(parts):
        for place in every[part * len(every) // parts : (part + 1) * len(every) // parts]:
            made = mutant(path, content, *place)
            if made is None or (path, *made[2:4]) in same:
                continue
            if lines is None or made.line in lines:
                yield made
                break


def tests_of(path: str, known: dict[str, list[str]]) -> list[str]:
    """Return what pytest is given for a module: the longest entry that its path begins with.

    Without an entry, train/ROOM/... has tests/train/ROOM, and jaxnets/_name.py tests/test_name.py.
    """
    entries = [prefix for prefix in known if path.startswith(prefix)]
    if entries:
        return known[max(entries, key=len)]
    package, *parts = Path(path).with_suffix("").parts
    if package == "jaxnets":
        return [f"tests/test_{parts[0].lstrip('_')}.py"]
    return [f"tests/train/{parts[0]}" if len(parts) > 1 else f"tests/train/test_{parts[0]}.py"]


def chosen(paths: Sequence[str], since: str | None) -> dict[str, set[int] | None]:
    """Return the modules to change, each with the lines; None for all of them."""
    files: dict[str, set[int] | None] = {}
    for path in paths:
        where = ROOT / path
        several = sorted(where.rglob("*.py")) if where.is_dir() else [where]
        files |= {str(file.relative_to(ROOT)): None for file in several}
    if since is not None:
        words = ["git", "diff", "--unified=0", since, "--", *(paths or ("train", "jaxnets"))]
        text = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        files, name = {}, ""
        for line in text.splitlines():
            if line.startswith("+++ "):
                name = line.removeprefix("+++ b/")
            elif (match := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line)) and name[-3:] == ".py":
                first, count = int(match[1]), int(match[2] or 1)
                lines = files.setdefault(name, set())
                assert lines is not None
                lines |= set(range(first, first + count))
    return files


class Quick:
    """Leave out the tests that are marked `slow`, where they are not named one by one."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.named = tuple(test for test in tests if "::" in test)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [
            item
            for item in items
            if item.get_closest_marker("slow") is None or item.nodeid.startswith(self.named)
        ]


def passes(folder: Path, tests: Sequence[str], limit: float) -> tuple[bool, str]:
    """Run tests in a fork of this process; return whether they pass, and what they print."""
    log = folder / "log"
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        os.environ["PYTHONPATH"] = str(folder)
        import pytest

        for name in [n for n in sys.modules if n.split(".")[0] in ("tests", "train", "jaxnets")]:
            del sys.modules[name]
        status = 1
        with contextlib.suppress(BaseException):
            # Without what makes a report readable: nobody reads it.
            os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
            words = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", *tests]
            status = int(pytest.main(words, plugins=[Quick(tests)]))
        sys.stdout.flush()
        os._exit(status)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            text = log.read_text(encoding="utf-8", errors="replace")
            return os.waitstatus_to_exitcode(status) == 0, text
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False, f"took longer than {limit:g} s"


def measured(path: str, lines: set[int] | None, folder: Path, most: int | None) -> tuple[int, int]:
    """Try the changes of a module; print those that survive.

    Returns:
        How many were found, and how many there were.
    """
    known = settings()
    tests = tests_of(path, known["tests"])
    good, said = passes(folder, tests, 10 * known["limit"])
    if not good:
        print(f"{path}: its tests fail without a change:\n{said[-2000:]}", flush=True)
        return 0, 0
    found, total, target = 0, 0, folder / path
    for made in drawn(path, lines, most, known):
        total += 1
        shutil.rmtree(target.parent / "__pycache__", ignore_errors=True)
        target.write_text(made.content, encoding="utf-8")
        good, _ = passes(folder, tests, known["limit"])
        found += not good
        if good:
            print(f"{path}:{made.line}: {made.before}\n{'':>8}->  {made.after}", flush=True)
    target.write_text((ROOT / path).read_text(encoding="utf-8"), encoding="utf-8")
    shutil.rmtree(target.parent / "__pycache__", ignore_errors=True)
    share = f" ({found / total:.0%})" if total else ""
    print(f"{path}: {found} of {total} changes are found{share}", flush=True)
    return found, total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("paths", nargs="*", help="modules or folders")
    parser.add_argument("--since", metavar="REVISION", help="the lines that differ from it alone")
    parser.add_argument("--most", type=int, help="so many changes of a module at most")
    asked = parser.parse_args()
    if not asked.paths and asked.since is None:
        parser.error("name a module, a folder, or --since a revision")
    for name in SLOW:
        __import__(name)
    gc.freeze()  # Each process collects its own garbage alone.
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(lambda name: (ROOT / name).is_file(), names.splitlines()):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        # Compiled once, as far as a change does not change what is compiled.
        sys.modules["jax"].config.update("jax_compilation_cache_dir", str(folder / "compiled"))
        sys.modules["jax"].config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
        sys.modules["jax"].config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        pairs = [
            measured(path, lines, folder, asked.most)
            for path, lines in chosen(asked.paths, asked.since).items()
        ]
    found, total = (sum(pair[place] for pair in pairs) for place in (0, 1))
    if not total:
        print("there is nothing to change")
    elif len(pairs) > 1:
        print(f"all: {found} of {total} changes are found ({found / total:.0%})")


if __name__ == "__main__":
    main()
