"""What is said of a training while it goes on."""

import io

import pytest
from rich.console import Console

from train.report import console as consoles
from train.report.progress import Progress


def record(run, step, loss, seconds=1.25):
    return {
        "run": run, "step": step, "seconds": seconds, "train_loss": None, "train_accuracy": None,
        "validation_loss": None, "validation_accuracy": None,
        "test_loss": loss, "test_accuracy": None if loss is None else 1 - loss,
    }  # fmt: skip


def shown(terminal=False):
    file = io.StringIO()
    return file, Console(file=file, width=100, force_terminal=terminal, legacy_windows=False)


def test_a_run_has_a_line_for_each_evaluation():
    file, console = shown()
    with Progress(1000, console) as progress:
        progress.evaluated([record(0, 5, 0.25)])
        progress.evaluated([record(0, 1000, 0.125, 61.0)])
        progress.evaluated([])
    assert file.getvalue().splitlines() == [
        "step    5/1000  test loss 0.2500 accuracy 0.7500  1.2 s",
        "step 1000/1000  test loss 0.1250 accuracy 0.8750  61.0 s",
    ]


def test_a_group_has_the_lowest_and_the_highest_and_how_many_diverged():
    file, console = shown()
    with Progress(40, console, 5) as progress:
        progress.begin("group 1 of 2", 3, 10)
        progress.evaluated([record(0, 0, None), record(1, 0, None), record(2, 0, None)])
        progress.evaluated([record(0, 5, 0.25), record(1, 5, None), record(2, 5, 0.5)])
        progress.begin("group 2 of 2", 1, 10)
        progress.evaluated([record(3, 10, 0.75)])
    first, second, third = file.getvalue().splitlines()
    assert first == "group 1 of 2  step  0/10 of 3 runs  1.2 s"
    assert second == (
        "group 1 of 2  step  5/10 of 3 runs  test loss 0.25 to 0.5, "
        "accuracy 0.5000 to 0.7500  1 diverged  1.2 s"
    )
    assert third.startswith("group 2 of 2  step 10/10 of 1 run  test loss 0.75 to 0.75")


def test_on_a_terminal_it_is_told_where_all_runs_are():
    _, console = shown(terminal=True)
    with Progress(100, console, 6) as progress:
        progress.begin("group 1 of 2", 3, 10)
        assert progress._bar.below == "runs: 3 in training (group 1 of 2, step 0/10), 3 waiting"
        progress.advance(5, 1234.0)
        (task,) = progress._bar.tasks
        assert (task.completed, task.total) == (15, 100)
        assert task.fields["rate"] == "1,234 steps/s"
        progress.evaluated([record(0, 5, 0.25), record(1, 5, None), record(2, 5, 0.5)])
        below = progress._bar.below.splitlines()
        assert below[0] == ("runs: 3 in training (group 1 of 2, step 5/10), 3 waiting, 1 diverged")
        assert below[1].startswith("test loss 0.25 to 0.5")
        progress.begin("group 2 of 2", 2, 20)
        assert progress._bar.below == (
            "runs: 2 in training (group 2 of 2, step 0/20), 3 done, 1 waiting, 1 diverged"
        )
        assert progress._bar.tasks[0].completed == 30
        progress.advance(20, 1.0)
        assert progress._bar.tasks[0].completed == 70


def test_a_single_run_counts_its_own_steps():
    _, console = shown(terminal=True)
    with Progress(100, console) as progress:
        progress.advance(5, 1.0)
        assert progress._bar.tasks[0].completed == 5
        progress.evaluated([record(0, 5, 0.25)])
        assert progress._bar.below == "test loss 0.2500 accuracy 0.7500"


def test_a_clock_runs_while_something_is_compiled():
    _, console = shown(terminal=True)
    progress = Progress(10, console)
    with progress.compiling():
        assert progress._bar.compiling_since is not None
        texts = [str(part) for part in progress._bar.get_renderables()]
        assert "compiling… 0 s" in texts
    assert progress._bar.compiling_since is None


def test_of_several_compilations_in_a_row_one_is_said():
    file, console = shown()
    progress = Progress(10, console)
    progress._say_compiling()
    progress._say_compiling()
    assert file.getvalue() == "compiling…\n"
    progress.begin("group 1 of 2", 1, 10)
    progress.evaluated([record(0, 5, 0.25)])
    progress._say_compiling()
    assert file.getvalue().splitlines()[-1] == "group 1 of 2  compiling…"


# --- consoles ------------------------------------------------------------------------------------


def test_a_file_has_the_width_that_is_asked_for(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert consoles.output().width == 100
    assert consoles.output(70).width == 70
    with pytest.raises(BrokenPipeError):
        consoles.output().on_broken_pipe()


def test_a_terminal_has_its_own(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("COLUMNS", "55")
    monkeypatch.setenv("TERM", "xterm")
    assert consoles.output().width == 55


@pytest.mark.parametrize("quiet", [True, False])
def test_errors_are_no_widgets_in_a_notebook(monkeypatch, quiet):
    monkeypatch.setenv("FORCE_COLOR", "1")
    found = consoles.standard_error(quiet)
    assert (found.stderr, found.quiet, found.is_terminal) == (True, quiet, True)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    found = consoles.standard_error(quiet)
    assert (found.stderr, found.quiet, found.is_jupyter) == (True, quiet, False)
    assert not found.is_terminal
