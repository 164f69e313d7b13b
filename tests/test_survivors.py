"""Which tests the tool that changes the code runs for a module."""

import types

import pytest

from tests.benchmarks import survivors

KNOWN = survivors.settings()


def modules():
    files = [*survivors.ROOT.glob("train/**/*.py"), *survivors.ROOT.glob("jaxnets/**/*.py")]
    paths = [str(file.relative_to(survivors.ROOT)) for file in files]
    return sorted(path for path in paths if not path.startswith("jaxnets/ops/"))


@pytest.mark.parametrize("path", modules())
def test_every_module_has_tests_that_are_there(path):
    for test in survivors.tests_of(path, KNOWN["tests"]):
        file, _, name = test.partition("::")
        assert (survivors.ROOT / file).exists(), test
        assert f"def {name}" in (survivors.ROOT / file).read_text() if name else True


def test_the_longest_entry_counts():
    known = {"train/flags": ["a"], "train/flags/sweep.py": ["b"], "train/metrics.py": ["c"]}
    assert survivors.tests_of("train/flags/sweep.py", known) == ["b"]
    assert survivors.tests_of("train/flags/config.py", known) == ["a"]
    assert survivors.tests_of("train/engine/memory.py", known) == ["tests/train/engine"]
    assert survivors.tests_of("train/mlp.py", known) == ["tests/train/test_mlp.py"]
    assert survivors.tests_of("jaxnets/_costs.py", known) == ["tests/test_costs.py"]


def test_what_makes_no_difference_is_still_there_and_says_why():
    for of in KNOWN["equivalent"]:
        lines = (survivors.ROOT / of["path"]).read_text().splitlines()
        assert of["before"] in map(str.strip, lines)
        assert of["before"] != of["after"]
        assert of["why"].endswith(".")


def test_changes_are_drawn_from_the_whole_of_a_module():
    pytest.importorskip("cosmic_ray")
    path = "train/metrics.py"
    every = list(survivors.drawn(path, None, None, KNOWN))
    assert len({made.content for made in every}) == len(every) > 8
    content = (survivors.ROOT / path).read_text()
    for made in every:
        assert made.before in content.splitlines()[made.line - 1]
        assert made.after in made.content
        assert made.content != content
    some = list(survivors.drawn(path, None, 4, KNOWN))
    assert len(some) == 4
    assert set(some) < set(every)
    line = every[0].line
    assert {made.line for made in survivors.drawn(path, {line}, None, KNOWN)} == {line}
    first = {"path": path, "before": every[0].before, "after": every[0].after}
    others = survivors.drawn(path, None, None, {**KNOWN, "equivalent": [first]})
    assert every[0] not in list(others)


def test_slow_tests_are_run_where_they_are_named():
    def item(name, slow):
        return types.SimpleNamespace(nodeid=name, get_closest_marker=lambda _: slow)

    quick, named, slow = item("a.py::q", None), item("a.py::n[1]", True), item("a.py::s", True)
    items = [quick, named, slow]
    survivors.Quick(["a.py", "a.py::n"]).pytest_collection_modifyitems(items)
    assert items == [quick, named]


def test_of_a_branch_the_lines_that_it_changes_count(monkeypatch):
    diff = """diff --git a/train/metrics.py b/train/metrics.py
--- a/train/metrics.py
+++ b/train/metrics.py
@@ -3 +3,2 @@ def a
@@ -10,2 +12 @@ def b
@@ -20,2 +21,0 @@ def c
--- a/README.md
+++ b/README.md
@@ -1 +1 @@
"""
    done = types.SimpleNamespace(stdout=diff)
    monkeypatch.setattr(survivors.subprocess, "run", lambda words, **options: done)
    assert survivors.chosen([], "main") == {"train/metrics.py": {3, 4, 12}}


def test_modules_are_named_by_themselves_or_by_their_folder():
    found = survivors.chosen(["train/report", "train/metrics.py"], None)
    assert found["train/metrics.py"] is None
    assert "train/report/tables.py" in found
    assert all(path.startswith("train/report/") or path == "train/metrics.py" for path in found)
