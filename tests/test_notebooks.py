"""The notebooks run from top to bottom, and are stored as they ran.

What is run here is their reduced form: without the cell tagged `install`, and with the source of
the cell tagged `parameters` replaced by the `reduced` of its metadata.
"""

import ast
import os
import re
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
assert NOTEBOOKS

INSTALL = """\
# From a checkout of the project; in a hosted notebook, clone it first and work in its notebooks folder.
%pip install --quiet "..[notebooks]\""""  # noqa: E501

# A home or a temporary folder, here or on another machine, or where a package lies.
PATHS = re.compile(
    r"(?<![\w.])/(?:home|root|tmp|Users|private|var/folders)/|[A-Za-z]:\\+Users|site-packages|"
    + "|".join(re.escape(str(path)) for path in (Path.home(), tempfile.gettempdir(), ROOT))
)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def read(path):
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def tags(cell):
    return cell.metadata.get("tags", [])


def code_cells(notebook):
    """The cells that are executed."""
    return [c for c in notebook.cells if c.cell_type == "code" and "install" not in tags(c)]


def reduced(notebook):
    """The reduced form, without outputs."""
    cells = [nbformat.from_dict(dict(c)) for c in notebook.cells if "install" not in tags(c)]
    for cell in cells:
        if "parameters" in tags(cell):
            cell.source = cell.metadata["reduced"]
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)


def assigned(source):
    """The names that a cell of plain assignments gives a value."""
    statements = ast.parse(source).body
    assert all(isinstance(statement, ast.Assign) for statement in statements)
    return [ast.unparse(target) for statement in statements for target in statement.targets]


def texts(cell):
    """The source of a cell, and of its outputs all that is no picture."""
    yield cell.source
    for output in cell.get("outputs", []):
        yield output.get("text", "")
        yield "\n".join(output.get("traceback", []))
        for kind, content in output.get("data", {}).items():
            if not kind.startswith("image/"):
                yield str(content)


@pytest.mark.slow
def test_runs(path, monkeypatch):
    # The kernel, a process of its own, finds the project, and draws as in a notebook.
    places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    stored = read(path)
    files = set(FOLDER.iterdir())
    ran = reduced(stored)
    resources = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(ran, kernel_name="python3", timeout=300, resources=resources).execute()
    assert set(FOLDER.iterdir()) == files
    for cell, new in zip(code_cells(stored), code_cells(ran), strict=True):
        assert bool(cell.outputs) == bool(new.outputs), cell.source


def test_stored_as_it_ran(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert "error" not in {output.output_type for output in outputs}


def test_begins_with_a_title_and_the_install_line(path):
    title, install, *others = read(path).cells
    assert title.cell_type == "markdown"
    assert title.source.startswith("# ")
    assert tags(install) == ["install"]
    assert install.source == INSTALL
    assert not install.outputs
    assert install.execution_count is None
    assert not any("install" in tags(cell) for cell in others)


def test_the_reduced_form_sets_the_same_parameters(path):
    for cell in read(path).cells:
        assert ("parameters" in tags(cell)) == ("reduced" in cell.metadata)
        if "parameters" in tags(cell):
            assert assigned(cell.metadata["reduced"]) == assigned(cell.source)


def test_no_path_of_a_machine(path):
    for cell in read(path).cells:
        for text in texts(cell):
            assert not PATHS.search(text), text


def test_small(path):
    assert path.stat().st_size < 500_000
