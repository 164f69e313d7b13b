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


@pytest.mark.slow
def test_every_op_has_a_section_with_its_source(pages):
    page = (pages / "jaxnets" / "ops.html").read_text()
    sections = dict(re.findall(r'<section id="([^".]+)">(.*?)</section>', page, re.S))
    assert set(ops.__all__) <= set(sections)
    for name in ops.__all__:
        for heading in ("Arguments", "Returns", "Raises"):
            assert f"{heading}:" in sections[name], (name, heading)


def test_what_is_public_has_a_page_or_a_section(pages):
    sections = re.findall(r'<section id="([^".]+)">', (pages / "jaxnets.html").read_text())
    modules = {path.stem for path in (pages / "jaxnets").glob("*.html")}
    assert set(jaxnets.__all__) <= {*sections, *modules}
    assert {"gradcheck", "autodiff", "costs"} <= set(sections)
    for path in (ROOT / "train").rglob("[a-z]*.py"):
        page = pages / path.relative_to(ROOT).with_suffix(".html")
        assert page.exists(), page
