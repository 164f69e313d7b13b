"""What the trainer makes of losses that are written down, step by step."""

import itertools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.engine import sharding
from train.engine import trainer as module
from train.engine.hyperparameters import hyperparameters
from train.engine.input_pipeline import Data, Sets
from train.engine.program import Program, State
from train.engine.sharding import Spread
from train.engine.trainer import Trainer
from train.flags.config import Training

EXAMPLES, BATCH = 14, 4  # Three batches an epoch, and two examples over.


def program(training, validation, infinite):
    """A program that learns the number of its step, and whose gradient is that of the example.

    Args:
        training: the loss at each step of each run, [runs, steps].
        validation: that of an evaluation after each step, [runs, steps + 1].
        infinite: the example whose gradient is infinite.
    """
    training, validation = jnp.float32(training), jnp.float32(validation)

    def run(hyper):  # The learning rate says which run it is.
        return hyper.learning_rate.astype(jnp.int32) - 1

    def initialise(hyper, key):
        return State(jnp.int32(0), key, {"step": jnp.float32(0)}, {}, {})

    def train_segment(state, hyper, data, batches):
        steps = state.step + jnp.arange(len(batches))
        after = state.step + len(batches)
        trace = {"loss": training[run(hyper)][steps], "accuracy": jnp.ones_like(steps)}
        return state._replace(step=after, params={"step": after.astype(jnp.float32)}), trace

    def evaluate(state, hyper, data):
        step = state.params["step"].astype(jnp.int32)
        return {"loss": validation[run(hyper)][step], "accuracy": step}

    def gradient_norms(state, hyper, data, batch):
        return jnp.where(batch == infinite, jnp.inf, batch.astype(jnp.float32))

    return Program(initialise, train_segment, None, None, None, evaluate, gradient_norms)


def make(training, validation=None, infinite=-1, **flags):
    """A trainer of as many runs as there are rows."""
    if validation is None:
        validation = np.ones((len(training), len(training[0]) + 1))
    data = Data(
        jnp.zeros((EXAMPLES, 1)), jnp.zeros(EXAMPLES, jnp.int32), jnp.zeros(1), jnp.float32(1)
    )
    runs = len(training)
    return Trainer(
        program(training, validation, infinite),
        [hyperparameters({"learning_rate": 1.0 + run}) for run in range(runs)],
        [0] * runs,
        Training(batch_size=BATCH, **flags),
        Sets(data, data, data),
    )


def evaluations(subject, ends):
    """The evaluations of all runs, by step."""
    found = [records for records in subject.train(ends, lambda *_: None) if records]
    return {records[0]["step"]: records for records in found}


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Of the four virtual ones: what compiles for one compiles in a fifth of the time."""
    monkeypatch.setattr("train.engine.sharding._mesh", lambda shard, runs: None)


def test_the_norms_are_those_of_the_last_batch_before_an_evaluation():
    """Each is the number of its example; in the first epoch these come in their order."""
    subject = make(np.ones((1, 6)), eval_every=3, gradient_norms=True)
    found = evaluations(subject, [3])
    assert found[0][0].get("gradient_norm_mean") is None
    (record,) = found[3]
    assert (record["gradient_norm_mean"], record["gradient_norm_max"]) == (9.5, 11.0)


def test_a_single_gradient_that_is_infinite_is_a_divergence():
    subject = make(np.ones((1, 4)), infinite=6, eval_every=2, gradient_norms=True)
    found = evaluations(subject, [4])
    assert list(found) == [0, 2]
    assert found[2][0]["gradient_norm_max"] is found[2][0]["train_loss"] is None
    (step, message) = subject.diverged[0]
    assert step == 2
    assert message.startswith("the largest gradient norm is inf after step 2;")


def test_what_evaluates_is_compiled_before_a_step_is_done(monkeypatch):
    """Where a signal ends the compilation, no step is lost by it."""
    subject, asked = make(np.ones((1, 2)), eval_every=2, gradient_norms=True), []
    functions = {name: getattr(subject, name) for name in
                 ("_evaluate", "_gradient_norms", "_train_segment")}  # fmt: skip
    for name, function in functions.items():

        def prepare(*arguments, name=name, prepare=function.prepare):
            asked.append((name, subject.step))
            return prepare(*arguments)

        monkeypatch.setattr(function, "prepare", prepare)
    training = subject.train([2], lambda *_: None)
    next(training)
    asked.clear()
    next(training)
    before = [name for name, step in asked if step == 0]
    assert before == ["_evaluate", "_evaluate", "_gradient_norms", "_train_segment"]


def test_a_step_takes_the_memory_of_the_state_before_it():
    subject = make(np.ones((1, 2)), eval_every=2)
    training = subject.train([2], lambda *_: None)
    next(training)
    before, data = jax.tree.leaves(subject.state), jax.tree.leaves(subject._sets.train)
    next(training)
    assert any(leaf.is_deleted() for leaf in before)
    assert not any(leaf.is_deleted() for leaf in data)


def test_the_memory_beside_the_states_is_that_of_the_data_and_of_one_program_at_a_time():
    subject = make(np.ones((1, 4)), eval_every=2)
    evaluations(subject, [4])
    subject._train_segment.bytes, subject._evaluate.bytes = 300, 500
    data = 3 * (EXAMPLES * 4 + EXAMPLES * 4 + 4 + 4)  # Inputs, labels, shift and scale.
    assert subject.working_bytes == data + 500
    subject._train_segment.bytes = 900
    assert subject.working_bytes == data + 900


@pytest.mark.slow
def test_a_run_that_resumes_keeps_the_best_parameters_from_before():
    """Also where the end of another run had a better evaluation: that run alone has it."""
    validation = [[5, 0, 3, 1, 4, 0, 6, 0, 7]]
    straight = make(np.ones((1, 8)), validation, eval_every=2, keep="best")
    evaluations(straight, [3, 8])
    assert straight.kept == {0: 2}
    subject = make(np.ones((1, 8)), validation, eval_every=2, keep="best")
    training = subject.train([3, 8], lambda *_: None)
    while subject.step < 3:
        next(training)
    assert subject.kept == {0: 3}
    assert subject.on_host(subject.learned)["params"]["step"].tolist() == [3]
    tree, notes = subject.snapshot()
    again = make(np.ones((1, 8)), validation, eval_every=2, keep="best")
    again.restore(tree["state"], tree, notes)
    assert again.kept == {0: 2}
    evaluations(again, [3, 8])
    assert again.kept == {0: 2}
    assert again.on_host(again.learned)["params"]["step"].tolist() == [2]


def test_a_run_that_is_stopped_does_not_diverge_later():
    losses = np.ones((2, 8))
    losses[0, 5] = math.nan
    validation = np.stack([np.arange(9) + 1, 10.0 - np.arange(9)])
    subject = make(losses, validation, eval_every=2, patience=2)
    found = evaluations(subject, [8])
    assert list(found) == [0, 2, 4, 6, 8]
    assert subject.stopped == {0: 4}
    assert "best" not in subject.snapshot()[0]
    assert subject.diverged == {}
    assert found[8][1]["train_loss"] == 1
    # Where a run stops, it ends, and is tested.
    assert [step for step, records in found.items() if records[0]["test_loss"]] == [4, 8]


@pytest.mark.parametrize("step", [1, 4, 8])
def test_a_run_diverges_where_its_loss_is_not_finite_first(step):
    losses = np.ones((2, 8))
    losses[0, step - 1 :] = math.inf
    subject = make(losses, eval_every=4)
    found = evaluations(subject, [8])
    assert {run: at for run, (at, _) in subject.diverged.items()} == {0: step}
    assert subject.stopped == {}
    for at, (bad, good) in found.items():
        assert good["validation_loss"] == 1
        assert (bad["validation_loss"] is None) == (at >= step)
    assert found[8][0]["test_loss"] is None
    assert found[8][1]["test_loss"] == 1


def test_an_evaluation_that_is_not_finite_is_noted_at_the_last_step_too():
    validation = np.ones((2, 5))
    validation[1, 4] = math.nan
    subject = make(np.ones((2, 4)), validation, eval_every=2)
    found = evaluations(subject, [4])
    assert {run: at for run, (at, _) in subject.diverged.items()} == {1: 4}
    assert found[4][1]["test_loss"] is None
    assert found[4][0]["test_loss"] == 1


@pytest.mark.parametrize(("patience", "stopped"), [(1, {0: 4}), (2, {0: 6}), (3, {})])
def test_patience_counts_evaluations_without_a_new_lowest_loss(patience, stopped):
    """The same loss again is not a new lowest one; one that falls begins the count anew."""
    validation = [[3, 0, 2, 0, 2, 0, 2, 0, 1, 0, 5], [9, 0, 8, 0, 7, 0, 6, 0, 5, 0, 4]]
    subject = make(np.ones((2, 10)), validation, eval_every=2, patience=patience)
    evaluations(subject, [10])
    assert subject.stopped == stopped


def test_the_best_parameters_are_those_of_the_lowest_validation_loss():
    validation = [[5, 0, 2, 0, 3, 0, 2, 0, 4], [5, 0, 4, 0, 3, 0, 2, 0, 1]]
    subject = make(np.ones((2, 8)), validation, eval_every=2, keep="best")
    found = evaluations(subject, [8])
    assert subject.kept == {0: 2, 1: 8}
    assert subject.on_host(subject.learned)["params"]["step"].tolist() == [2, 8]
    assert [record["test_loss"] for record in found[8]] == [2, 1]
    assert [record["test_accuracy"] for record in found[8]] == [2 / EXAMPLES, 8 / EXAMPLES]
    assert subject.snapshot()[0]["best"]["params"]["step"].tolist() == [2, 8]


def test_a_resumed_training_has_the_seconds_from_before():
    subject = make(np.ones((1, 8)), eval_every=4)
    training = subject.train([8], lambda *_: None)
    while subject.step < 4:
        next(training)
    tree, notes = subject.snapshot()
    assert 0 < notes["seconds_in_steps"] < notes["seconds"]
    again = make(np.ones((1, 8)), eval_every=4)
    again.restore(tree["state"], tree, {**notes, "seconds": 5000.0, "seconds_in_steps": 3000.0})
    (last,) = evaluations(again, [8]).values()
    assert 5000 < last[0]["seconds"] == again.seconds < 5100
    assert 3000 < again.seconds_in_steps < 3100
    assert again.steps_per_second == pytest.approx(8 / again.seconds_in_steps)


def test_the_speed_is_that_of_all_runs_in_training_alone(monkeypatch):
    clock = itertools.count().__next__  # A second from each question to the next.
    monkeypatch.setattr(module, "time", types.SimpleNamespace(perf_counter=clock))
    subject, seen = make(np.ones((3, 8)), eval_every=4), []
    assert subject.steps_per_second == 0
    list(subject.train([8], lambda *arguments: seen.append(arguments)))
    assert subject.seconds_in_steps == 2  # Two segments; the clock went on between them.
    assert subject.seconds > 4
    assert subject.steps_per_second == 3 * 8 / 2
    assert seen == [(4, 12.0), (8, 12.0)]


def test_a_mean_is_over_the_steps_since_the_evaluation_before():
    subject = make(np.arange(1.0, 9.0)[None], eval_every=4)
    found = evaluations(subject, [6, 8])
    assert {step: records[0]["train_loss"] for step, records in found.items()} == {
        0: None,
        4: 2.5,
        6: 5.5,
        8: 6.5,  # The end of a run does not cut it in two.
    }
    assert found[4][0]["train_accuracy"] == 1 / BATCH
    assert found[6][0]["epoch"] == 2.0
    assert [step for step, records in found.items() if records[0]["test_loss"]] == [6, 8]


def test_where_all_runs_diverge_no_further_step_is_done(monkeypatch):
    """Not even to the next evaluation."""
    monkeypatch.setattr("train.engine.segments.LONGEST_SEGMENT", 2)
    subject = make(np.full((2, 8), math.inf), eval_every=4)
    assert list(evaluations(subject, [8])) == [0, 2]
    assert subject.step == 2


def test_what_is_like_a_tree_has_its_shapes_for_other_runs():
    subject = make(np.ones((2, 4)))
    tree = {"a": np.zeros((2, 3, 5), np.int8)}
    assert subject.like(tree, 7) == {"a": jax.ShapeDtypeStruct((7, 3, 5), np.int8)}


def test_a_mean_is_taken_in_float64():
    """In float32 what is small beside the others would be lost."""
    losses = np.float32([1.0, 3e-8])
    (_, (last,)) = evaluations(make(losses[None], eval_every=2), [2]).values()
    assert last["train_loss"] == losses.astype(np.float64).mean() > 0.5


def test_a_mean_goes_on_where_a_training_resumes(monkeypatch):
    monkeypatch.setattr("train.engine.segments.LONGEST_SEGMENT", 2)
    losses = np.array([[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]])
    subject = make(losses, eval_every=4)
    training = subject.train([8], lambda *_: None)
    for step, mean in ((2, 3.75), (6, 60.0)):
        while subject.step < step:
            next(training)
        tree, notes = subject.snapshot()
        again = make(losses, eval_every=4)
        again.restore(tree["state"], tree, notes)
        assert next(iter(evaluations(again, [8]).values()))[0]["train_loss"] == mean


@pytest.mark.parametrize("runs", range(1, 10))
def test_the_last_run_fills_up_the_devices(monkeypatch, runs):
    """So that each of four devices has as many."""
    monkeypatch.undo()
    if len(jax.devices()) < 4:
        pytest.skip("needs four devices")
    asked = []
    monkeypatch.setattr(
        "train.engine.sharding.choose_lockstep", lambda platform, each: asked.append(each) or 1
    )
    spread = Spread("runs", runs, None)
    devices = min(runs, 4)
    assert asked == [math.ceil(runs / devices)]  # Of the runs of a device, so many at a time.
    assert spread.rows[:runs] == list(range(runs))
    assert set(spread.rows[runs:]) <= {runs - 1}
    assert len(spread.rows) == math.ceil(runs / devices) * devices
    assert Spread("batch", runs, None).rows == list(range(runs))


@pytest.mark.parametrize("shard", ["runs", "batch"])
def test_one_device_has_every_run(shard):
    spread = Spread(shard, 3, None)
    assert spread.own is spread.shared is spread.indices is None
    assert spread.here == {0, 1, 2}
    assert spread.rows_together == 3
    sets = Sets(None, None, None)
    assert spread.placed(sets) is sets
    taken = {run: np.full((2, 4), run) for run in range(3)}
    found = spread.assembled(taken)
    np.testing.assert_array_equal(found, np.stack([taken[run] for run in range(3)]))


def test_four_devices_have_their_runs_or_parts(monkeypatch):
    monkeypatch.undo()
    if len(jax.devices("cpu")) < 4:
        pytest.skip("needs four devices")
    four = jax.devices("cpu")[:4]
    monkeypatch.setattr(jax, "devices", lambda *_: four)
    images = [jnp.zeros((count, 1)) for count in (8, 9)]
    sets = Sets(*[Data(x, x[:, 0], jnp.zeros(1), jnp.float32(1)) for x in (*images, images[0])])
    for shard, rows, parts in (("runs", 8, (8, 9, 8)), ("batch", 5, (8, 9, 2))):
        spread = Spread(shard, 5, None)
        assert len(spread.rows) == rows
        assert spread.here == set(range(5))
        placed = spread.placed(sets)
        assert [len(of.x.addressable_shards[0].data) for of in placed] == list(parts)
        assert (spread.over_examples(len) is len) == (shard == "runs")
        assert all(len(of.scale.sharding.device_set) == 4 for of in placed)
        assert spread.placed(sets._replace(validation=None)).validation is None
        taken = {run: np.full((2, 4), run) for run in range(5)}
        found = spread.assembled(taken)
        np.testing.assert_array_equal(found, np.stack([taken[run] for run in spread.rows]))
        shape = found.addressable_shards[0].data.shape
        assert shape == {"runs": (2, 2, 4), "batch": (5, 2, 1)}[shard]
    spread = Spread("runs", 5, None)
    for platform, rows in (("cpu", 8), ("gpu", 2)):  # The devices of a CPU share its memory.
        monkeypatch.setattr(jax, "default_backend", lambda platform=platform: platform)
        assert spread.rows_together == rows
    assert Spread("runs", 1, None).own is None


@pytest.mark.parametrize("lockstep", [1, 2, 4])
def test_so_many_runs_are_computed_at_a_time(lockstep):
    """One at a time as it is, not as a batch of one."""
    program = jax.make_jaxpr(sharding.over_runs(lambda x, shared: x @ shared, lockstep))
    x, shared = np.arange(12, dtype=np.float32).reshape(4, 3), np.ones(3, np.float32)
    (shape,) = {line.split(":")[1].split()[0] for line in str(program(x, shared)).splitlines()
                if "dot_general" in line}  # fmt: skip
    assert shape == ("f32[]" if lockstep == 1 else f"f32[{lockstep}]")


def test_cores_that_have_runs_of_their_own_do_not_divide_loops():
    mesh = jax.make_mesh((1,), ("runs",), devices=jax.devices("cpu")[:1])
    assert sharding._options(mesh) == {"xla_disable_hlo_passes": "cpu-parallel-task-assigner"}
    device = types.SimpleNamespace(platform="gpu")
    other = types.SimpleNamespace(devices=np.array([device], object))
    assert sharding._options(other) == sharding._options(None) == {}


def test_a_cpu_computes_one_run_at_a_time_and_others_all():
    assert [sharding.choose_lockstep(name, 7) for name in ("cpu", "gpu", "tpu")] == [1, 7, 7]
