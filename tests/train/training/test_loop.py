"""What a run is told of how it ended, where others of its group go on."""

import contextlib
import signal
import types

import pytest

from train.flags.config import MlpRun, replaced
from train.flags.sweep import Group
from train.processes import collectives
from train.processes.signals import Stopped
from train.run_directory.keeper import Keeper
from train.run_directory.summary import Result
from train.training.loop import Loop, directory_of


class Trainer:
    """A trainer whose evaluations are written down: by step, the runs that diverged or stopped."""

    parameters = 17

    def __init__(self, steps, diverged=None, stopped=None, kept=None):
        self._steps, self._kept = steps, kept or {}
        self._diverged, self._stopped = diverged or {}, stopped or {}
        self.diverged, self.stopped, self.kept = {}, {}, {}

    def train(self, ends, advance):
        for step in self._steps:
            yield []
            self.diverged = {r: (s, "why") for r, s in self._diverged.items() if s <= step}
            self.stopped = {r: s for r, s in self._stopped.items() if s <= step}
            self.kept = {run: step for run in self._kept}
            yield [{"step": step, "test_loss": step / 8, "test_accuracy": 0.5}] * 2


class Kept(Keeper):
    """Notes which runs have ended, and at which step of the training."""

    def __init__(self):
        super().__init__()
        self.ended = {}

    def keep(self, trainer, ended):
        self.ended |= ended


class Directory:
    """Notes the lines that are written."""

    def __init__(self):
        self.lines = []

    def append(self, line):
        self.lines.append(line)


def trained(trainer):
    """Two trained runs: the first is read at steps 5 and 10, the second at step 10."""
    runs = [replaced(MlpRun(), {"seed": seed, "eval_every": 5}) for seed in (0, 0, 1)]
    group = Group(runs[0], {runs[0]: {0: 5, 1: 10}, runs[2]: {2: 10}})
    known = [Result(run, []) for run in runs]
    saver, directory = Kept(), Directory()
    signals = types.SimpleNamespace(held=contextlib.nullcontext, received=None)
    progress = types.SimpleNamespace(advance=None, evaluated=lambda shown: None)
    loop = Loop(directory, known, saver, signals)
    for _ in loop._evaluated(trainer, group, progress):
        pass
    return known, saver.ended, directory.lines


@pytest.mark.parametrize(
    ("step", "expected"), [(4, [4, 4, None]), (5, [5, 5, None]), (6, [None, 6, None])]
)
def test_a_run_diverged_where_it_did_so_up_to_its_own_end(step, expected):
    known, ended, _ = trained(Trainer((0, 5, 10), diverged={0: step}))
    assert [result.end.diverged for result in known] == expected
    assert ended == {0: 0, 1: 0, 2: 1}
    assert [result.end.parameters for result in known] == [17, 17, 17]


def test_a_divergence_at_the_last_step_is_noted():
    known, _, _ = trained(Trainer((0, 5, 10), diverged={1: 10}))
    assert [result.end.diverged for result in known] == [None, None, 10]


@pytest.mark.parametrize(("step", "expected"), [(5, [None, 5, None]), (10, [None, None, None])])
def test_a_run_that_ends_where_patience_would_stop_it_is_not_stopped(step, expected):
    known, ended, lines = trained(Trainer((0, 5, 10), stopped={0: step}))
    assert [result.end.stopped for result in known] == expected
    assert ended == {0: 0, 1: 0, 2: 1}
    steps = [[line["step"] for line in lines if line["run"] == run] for run in range(3)]
    assert steps == [[0, 5], [0, 5] if step == 5 else [0, 5, 10], [0, 5, 10]]


def test_each_run_has_its_own_evaluations_and_a_test_set_at_its_own_end():
    _, _, lines = trained(Trainer((0, 5, 10)))
    assert [(line["run"], line["step"], line["test_loss"]) for line in lines] == [
        (0, 0, None), (1, 0, None), (2, 0, None),
        (0, 5, 0.625), (1, 5, None), (2, 5, None),
        (1, 10, 1.25), (2, 10, 1.25),
    ]  # fmt: skip
    assert [line["seed"] for line in lines[:3]] == [0, 0, 1]


def test_the_step_of_the_best_parameters_is_that_of_the_own_end():
    known, _, _ = trained(Trainer((0, 5, 10), kept={0: 5, 1: 5}))
    assert [result.end.kept for result in known] == [5, 10, 10]


def test_the_divergence_of_the_only_run_is_an_error():
    trainer = Trainer((0, 5), diverged={0: 5})
    run = replaced(MlpRun(), {"eval_every": 5})
    progress = types.SimpleNamespace(advance=None, evaluated=lambda shown: None)
    for count in (1, 2):
        readers = {run: {0: 5}} if count == 1 else {run: {0: 5, 1: 5}}
        known = [Result(run, []) for _ in range(count)]
        loop = Loop(None, known, Kept(), types.SimpleNamespace(received=None))
        evaluations = loop._evaluated(trainer, Group(run, readers), progress)
        if count == 1:
            with pytest.raises(FloatingPointError, match=r"^why$"):
                list(evaluations)
        else:
            list(evaluations)
            assert known[1].end.diverged == 5


class Saving(Kept):
    def __init__(self):
        super().__init__()
        self.offered, self.finished = [], False

    def offer(self, number, trainer, group, now=False):
        self.offered.append(now)

    def finish(self, number, trainer, group):
        self.finished = True


@pytest.mark.parametrize(("words", "where"), [("", ""), ("group 1/2", " of group 1/2")])
def test_a_signal_ends_the_training_where_all_is_saved(words, where):
    run = replaced(MlpRun(), {"eval_every": 5})
    signals = types.SimpleNamespace(held=contextlib.nullcontext, received=None)
    progress = types.SimpleNamespace(advance=None, evaluated=lambda shown: None)

    def train(received):
        trainer, saver = Trainer((0, 5)), Saving()
        trainer.step, forgotten = 5, []
        trainer.forget = lambda: forgotten.append(True)
        signals.received = None

        def evaluated(shown):
            signals.received = received and signal.SIGTERM

        progress.evaluated = evaluated
        loop = Loop(None, [Result(run, [])], saver, signals)
        try:
            loop.train(trainer, Group(run, {run: {0: 5}}), 1, words, progress)
        finally:
            assert saver.finished == (not received) == bool(forgotten)
            assert saver.offered[-1] == received

    train(False)
    with pytest.raises(Stopped, match=f"^terminated after step 5{where}$"):
        train(True)


def test_a_signal_that_comes_as_a_group_is_saved_ends_it_there():
    run = replaced(MlpRun(), {"eval_every": 5})
    signals = types.SimpleNamespace(held=contextlib.nullcontext, received=None)
    progress = types.SimpleNamespace(advance=None, evaluated=lambda shown: None)
    saver = Saving()
    saver.finish = lambda *a: setattr(signals, "received", signal.SIGINT)
    loop = Loop(None, [Result(run, [])], saver, signals)
    for words in ("", "group 1/2"):
        signals.received = None
        said = words or "the last step"
        with pytest.raises(Stopped, match=f"^interrupted after {said}$"):
            loop.train(Trainer((0, 5)), Group(run, {run: {0: 5}}), 1, words, progress)


def test_the_first_process_says_where_the_run_directory_is(monkeypatch, tmp_path):
    sweep = types.SimpleNamespace(
        directory=None, runs=[replaced(MlpRun(), {"out": tmp_path / "a"})]
    )
    said = []
    monkeypatch.setattr(collectives, "gathered", lambda value: said.append(value) or [value, ""])
    with directory_of(sweep, "digits-mlp") as directory:
        assert directory.path == tmp_path / "a"
        assert directory.writes
    assert said == [str(tmp_path / "a")]
    monkeypatch.setattr(collectives, "is_first", lambda: False)
    monkeypatch.setattr(collectives, "gathered", lambda value: [str(tmp_path / "a"), value])
    with directory_of(sweep, "digits-mlp") as directory:
        assert directory.path == tmp_path / "a"
        assert not directory.writes
    monkeypatch.setattr(collectives, "is_first", lambda: True)
    sweep.directory = tmp_path / "a"
    with directory_of(sweep, "digits-mlp") as directory:
        assert directory.path == tmp_path / "a"
