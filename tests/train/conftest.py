import jax
import pytest

from train import figures


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder, what the commands need of JAX's defaults, and no time spent on figures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(figures, "curves", lambda *arguments: None)
    monkeypatch.setattr(figures, "bands", lambda *arguments: None)
    with jax.numpy_dtype_promotion("standard"):
        yield tmp_path
