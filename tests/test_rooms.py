"""Where a line belongs: what may import what, how long a file and a function may be."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Each line may import the lines below it, and what stands in the same line where that is one room.
ROOMS = (
    ("train.runs",),
    (
        "train.__main__",
        "train.mlp",
        "train.convnet",
        "train.custom",
        "train.compare",
        "jaxnets.__main__",
    ),
    ("train.estimators",),
    ("train.evaluate",),
    ("train.reproduce",),
    ("train.training",),
    ("train.report",),
    ("train.run_directory",),
    ("train.custom_network",),
    ("train.engine",),
    ("train.data",),
    ("train.processes",),
    ("train.flags",),
    ("train.cache",),
    ("train.errors", "train.metrics"),
    ("jaxnets",),
)

# As a package is imported it looks whether it is run as a command; it hands on what Python uses;
# and `jaxnets` is a command itself.
ALLOWED = {
    ("train", "train.processes.launch"),
    ("train", "train.runs"),
    ("jaxnets._launch", "train.processes.launch"),
    ("jaxnets._launch", "train.processes.signals"),
    ("jaxnets._launch", "jaxnets.__main__"),
}

# In the library, likewise.
LIBRARY = (
    ("jaxnets",),
    ("jaxnets._catalog",),
    ("jaxnets.nets",),
    ("jaxnets.adapters",),
    ("jaxnets.layers",),
    ("jaxnets.initializers",),
    ("jaxnets._audit",),
    ("jaxnets._costs",),
    ("jaxnets._gradcheck",),
    ("jaxnets._checking",),
    ("jaxnets._autodiff",),
    ("jaxnets.ops",),
    ("jaxnets._launch",),
)


def modules(root: Path) -> dict[str, Path]:
    found = {}
    for package in ("jaxnets", "train"):
        for path in (root / package).rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield the modules of this project that a file imports, at its top or within a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield full if full in known else node.module


def room(module: str, rooms: tuple[tuple[str, ...], ...]) -> int:
    """Return the line of a module: that of the longest name that it begins with."""
    fitting = [
        (len(name), line)
        for line, names in enumerate(rooms)
        for name in names
        if f"{module}.".startswith(f"{name}.")
    ]
    assert fitting, f"{module} has no room"
    return max(fitting)[1]


def upward(root: Path) -> list[str]:
    """Return the imports that go up, or from one command to another."""
    known, found = modules(root), []
    for module, path in known.items():
        for imported in imports(path, known):
            if (module, imported) in ALLOWED or imported == module:
                continue
            inside = module.startswith("jaxnets") and imported.startswith("jaxnets")
            rooms = LIBRARY if inside and module != "jaxnets.__main__" else ROOMS
            if module == "train":  # Its name is that of all rooms.
                found.append(f"{module} imports {imported}")
                continue
            above, below = room(module, rooms), room(imported, rooms)
            same_room = module.rsplit(".", 1)[0] == imported.rsplit(".", 1)[0] or (
                imported in module or module in imported
            )
            if above > below or (above == below and not (same_room and len(rooms[above]) == 1)):
                found.append(f"{module} imports {imported}")
    return found


def test_imports_go_down():
    assert upward(ROOT) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("train/flags/config.py", "from train.data import load"),
        ("train/engine/trainer.py", "from train.run_directory.checkpoint import load"),
        ("train/data/split.py", "def late():\n    from train.report import tables"),
        ("train/mlp.py", "from train import convnet"),
        ("jaxnets/ops/linear.py", "from jaxnets.layers import Layer"),
        ("jaxnets/layers.py", "from train.errors import Refusal"),
    ],
)
def test_one_that_goes_up_is_found(tmp_path, file, line):
    for module, path in modules(ROOT).items():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        assert module
    with (tmp_path / file).open("a", encoding="utf-8") as turned:
        turned.write(f"\n{line}\n")
    (found,) = upward(tmp_path)
    assert found.startswith(file.removesuffix(".py").replace("/", "."))


def test_the_commands_have_few_neighbours_and_each_room_says_what_lives_there():
    assert len(list((ROOT / "train").glob("*.py"))) <= 10
    for path in (ROOT / "train").glob("*/__init__.py"):
        assert len(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") > 80, path


def test_what_is_long_says_why():
    """A file of over 300 lines or a function of over 60 has a comment or docstring with "Long:"."""
    found = []
    for module, path in modules(ROOT).items():
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        if len(lines) > 300 and "Long: " not in text:
            found.append(f"{module}: {len(lines)} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno is not None
                body = lines[node.lineno - 1 : node.end_lineno]
                if len(body) > 60 and "Long: " not in "\n".join(body):
                    found.append(f"{module}.{node.name}: {len(body)} lines")
    assert found == []


def test_one_private_name_of_jax_is_used_and_says_why():
    """The coordinator of a cluster has no public name, and the roll call needs it."""
    used = {
        name: path.read_text(encoding="utf-8").count("jax._src")
        for name, path in modules(ROOT).items()
    }
    assert {name: count for name, count in used.items() if count} == {"train.processes.cluster": 1}
