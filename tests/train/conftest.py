import jax
import matplotlib.figure
import pytest

from train.report import figures


@pytest.fixture(scope="module")
def promotion():
    """JAX's default, which Optax needs, for the fixtures of a module too."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder, what the commands need of JAX's defaults, and no time spent on figures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(figures, "curves", lambda *arguments: None)
    monkeypatch.setattr(figures, "bands", lambda *arguments: None)
    with jax.numpy_dtype_promotion("standard"):
        yield tmp_path


@pytest.fixture
def drawn(monkeypatch):
    """The figures that a test writes, in their order."""
    found = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "savefig",
        lambda figure, *a, **k: found.append(figure) or save(figure, *a, **k),
    )
    return found
