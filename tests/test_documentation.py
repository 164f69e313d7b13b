import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import jaxnets
from jaxnets import ops

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """What the README's command for the documentation writes."""
    (command,) = re.findall(r"^python (-m pdoc .*) -o docs", (ROOT / "README.md").read_text(), re.M)
    folder = tmp_path_factory.mktemp("docs")
    words = [sys.executable, "-W", "error", *shlex.split(command), "-o", str(folder)]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")
    return folder


def test_every_op_has_a_section_with_its_source(pages):
    page = (pages / "jaxnets" / "ops.html").read_text()
    sections = dict(re.findall(r'<section id="([^".]+)">(.*?)</section>', page, re.S))
    assert set(ops.__all__) <= set(sections)
    for name in ops.__all__:
        for heading in ("Arguments", "Returns", "Raises"):
            assert f"{heading}:" in sections[name], (name, heading)


def test_every_public_module_has_a_page(pages):
    modules = {name for name in jaxnets.__all__ if inspect.ismodule(getattr(jaxnets, name))}
    assert {f"{name}.html" for name in modules} <= set(os.listdir(pages / "jaxnets"))
    page = (pages / "jaxnets.html").read_text()
    for name in set(jaxnets.__all__) - modules:
        assert f'<section id="{name}">' in page, name
    for path in (ROOT / "train").glob("[a-z]*.py"):
        assert (pages / "train" / f"{path.stem}.html").exists(), path
