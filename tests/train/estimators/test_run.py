"""When the training of a network is over, and which trainings share a program."""

import itertools
import math
import types
import warnings

import jax
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from jaxnets import layers, nets
from train.engine.optimizers import CONSTANT
from train.engine.program import State
from train.estimators import grouping, training
from train.estimators.architecture import (
    _HEADS,
    Shape,
    lists_of,
    precision,
    scores,
    tree_of,
)
from train.estimators.grouping import COMPILATION, grouped, operations, program_shape
from train.estimators.run import Run
from train.estimators.training import Sizes

SHAPE = Shape(3, (5,), 1, "logistic", "relu", None, False, "sgd", True, "constant", "float32")
OPTIONS = {
    "verbose": False, "tol": 0.25, "learning_rate": "constant", "learning_rate_init": 0.5,
    "power_t": 0.5, "n_iter_no_change": 1, "max_iter": 7,
}  # fmt: skip


def run_of(shape=SHAPE, examples=10, batch_size=4, random=None, options=OPTIONS, **changes):
    options = options | {name: changes.pop(name) for name in OPTIONS if name in changes}
    sizes = [shape.features, *shape.hidden, shape.outputs]
    return Run(
        shape, {"learning_rate": 0.5}, np.arange(examples), np.zeros(examples), None, batch_size,
        random or np.random.RandomState(0), options,
        [np.zeros(pair) for pair in itertools.pairwise(sizes)],
        [np.zeros(size) for size in sizes[1:]], **changes,
    )  # fmt: skip


def trained(run, losses):
    """The run after epochs with these mean losses."""
    for loss in losses:
        run.end_epoch(np.array([loss * len(run.rows), 0.0]), None, lambda: None)
    return run


def test_sizes_and_steps():
    assert run_of().sizes == [3, 5, 1]
    assert run_of().steps == 3  # Of 4, 4 and 2 examples.
    assert run_of(batch_size=5).steps == 2
    assert run_of().classes is None
    assert run_of(labels=np.array(["a", "b"])).classes == ("a", "b")


def test_the_loss_is_a_mean_over_examples_and_outputs():
    run = run_of()
    run.end_epoch(np.array([30.0, 20.0]), None, lambda: None)
    assert run.loss_curve == [5.0]
    numbers = run_of(SHAPE._replace(head="identity", outputs=2))
    numbers.end_epoch(np.array([30.0, 20.0]), None, lambda: None)
    assert numbers.loss_curve == [3.5]  # The penalty is that of the whole network.
    assert (run.n_iter, run.seen, run.best_loss) == (1, 10, 5.0)


@pytest.mark.parametrize(
    ("losses", "waited", "over"),
    [
        ([1.0, 0.875], 1, False),
        ([1.0, 0.875, 0.8125], 2, True),  # Each too little after the lowest before it.
        ([1.0, 0.875, 0.5], 0, False),
        ([1.0, 0.75], 0, False),  # As much as tol is enough.
        ([1.0, 2.0, 0.875, 0.5], 0, True),
        ([7.0, 6.0, 5.0, 4.0, 3.0, 2.0], 0, False),
        ([7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 0, True),  # max_iter
    ],
)
def test_it_is_over_after_epochs_without_improvement_or_at_the_last(losses, waited, over):
    run = trained(run_of(), losses)
    assert (run.waited, run.over) == (waited, over)
    assert run.best_loss == min(losses)


def test_a_partial_fit_is_one_epoch():
    assert trained(run_of(incremental=True), [1.0]).over


def test_the_best_score_keeps_its_parameters():
    given = []

    def score(outputs, targets, weight):
        given.append((outputs, targets, weight))
        return values.pop(0)

    values = [0.5, 0.75, 0.5, 0.875]
    held = (np.arange(2), np.ones(2), None)
    run = run_of(held=held, score=score)
    for epoch, (waited, best) in enumerate([(0, 0), (0, 1), (1, 1), (2, 3)]):
        outputs = np.arange(6.0).reshape(3, 2)
        run.end_epoch(np.zeros(2), outputs, lambda epoch=epoch: epoch)
        assert (run.waited, run.best) == (waited, best)
    assert run.over
    assert run.scores == [0.5, 0.75, 0.5, 0.875]
    assert run.best_score == 0.875
    np.testing.assert_array_equal(given[0][0], [1, 3])  # Of the two that are held out.


@pytest.mark.parametrize("verbose", [True, False])
def test_each_epoch_is_told_where_that_is_asked_for(capsys, verbose):
    held = (np.arange(2), np.ones(2), None)
    run = run_of(held=held, score=lambda *_: 0.5, verbose=verbose)
    run.end_epoch(np.array([10.0, 0.0]), np.zeros((3, 2)), lambda: None)
    said = "Iteration 1, loss = 1.00000000\nValidation score: 0.500000\n"
    assert capsys.readouterr().out == (said if verbose else "")
    run.end_epoch(np.array([10.0, 0.0]), np.zeros((3, 2)), lambda: None)
    run.end_epoch(np.array([10.0, 0.0]), np.zeros((3, 2)), lambda: None)
    ending = (
        "Validation score did not improve more than tol=0.250000 for 1 consecutive epochs. "
        "Stopping.\n"
    )
    assert capsys.readouterr().out.endswith(ending) == verbose


def test_a_rate_that_adapts_is_divided_by_5_until_it_is_too_small(capsys):
    run = trained(run_of(learning_rate="adaptive", verbose=True, max_iter=99), [1.0] * 3)
    assert run.numbers["learning_rate"] == pytest.approx(0.1)
    assert (run.waited, run.over) == (0, False)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Iteration 1, loss = 1.00000000"
    assert said[-1] == (
        "Training loss did not improve more than tol=0.250000 for 1 consecutive epochs. "
        "Setting learning rate to 0.100000"
    )
    run.numbers["learning_rate"] = 1e-6
    assert trained(run, [1.0] * 2).over
    assert capsys.readouterr().out.endswith("Learning rate too small. Stopping.\n")
    other = run_of(SHAPE._replace(solver="adam"), learning_rate="adaptive")
    assert trained(other, [1.0] * 3).over  # For "sgd" alone, as in scikit-learn.


def test_a_rate_falls_with_the_examples_that_were_seen():
    run = trained(run_of(learning_rate="invscaling"), [1.0])
    assert run.numbers["learning_rate"] == pytest.approx(0.5 / math.sqrt(11))
    other = run_of(SHAPE._replace(solver="adam"), learning_rate="invscaling")
    assert trained(other, [1.0]).numbers["learning_rate"] == 0.5


@pytest.mark.parametrize(
    ("epochs", "changes", "warned"),
    [(7, {}, True), (6, {}, False), (1, {"max_iter": 1, "incremental": True}, False)],
)
def test_it_warns_where_there_were_no_more_epochs(epochs, changes, warned):
    run = trained(run_of(**changes), np.arange(epochs, 0.0, -1))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        run.warn()
    assert [w.category for w in found] == [ConvergenceWarning] * warned
    if warned:
        run.waited = 1  # It would have waited for one more.
        with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(7\) reached"):
            run.warn()
    run.waited = 2
    run.warn()  # It gave up in its last epoch: no warning, which would be an error here.


def test_it_starts_from_its_own_arrays_or_with_moments_of_0():
    like = State(
        None, None, [{"weight": np.zeros((4, 5)), "bias": np.zeros(5)}], [], np.zeros(3, np.float32)
    )
    run = run_of(SHAPE._replace(hidden=()))
    run.coefs, run.intercepts = [np.ones((3, 1))], [np.full(1, 2.0)]
    run.key, run.step, run.moments = 7, 5, np.ones(3)
    state = run.start(like)
    assert (int(state.step), state.step.dtype) == (5, np.int32)
    assert (state.key.tolist(), state.key.dtype) == ([0, 7], np.uint32)
    assert (state.moments.tolist(), state.moments.dtype) == ([1] * 3, np.float32)
    assert state.params[0]["weight"].sum() == 3
    assert run.best is None
    run.moments, run.held = np.ones(4), (np.arange(2), np.ones(2), None)
    state = run.start(like)  # Of another shape: the optimizer starts anew.
    assert (int(state.step), state.moments.tolist()) == (0, [0] * 3)
    assert run.best == (state.params, state.statistics)


@pytest.mark.parametrize("with_moments", [True, False])
def test_it_resumes_where_an_estimator_is(with_moments):
    estimator = types.SimpleNamespace(
        _others="others", t_=60, _no_improvement_count=3, _moments=("moments", 9)
    )
    run = run_of()
    run.resume(estimator, with_moments)
    assert (run.others, run.seen, run.waited) == ("others", 60, 3)
    assert (run.moments, run.step) == (("moments", 9) if with_moments else (None, 0))
    assert (run.loss_curve, run.best_loss, run.best_score) == ([], math.inf, -math.inf)
    estimator.loss_curve_, estimator.validation_scores_ = [0.5], None
    estimator.best_loss_, estimator.best_validation_score_ = 0.25, None
    run.resume(estimator, with_moments)
    assert (run.loss_curve, run.scores) == ([0.5], [])
    assert (run.best_loss, run.best_score) == (0.25, -math.inf)
    estimator.best_loss_, estimator.best_validation_score_ = None, 0.75
    estimator.validation_scores_ = [0.75]
    run.resume(estimator, with_moments)
    assert (run.scores, run.best_loss, run.best_score) == ([0.75], math.inf, 0.75)


# --- programs ------------------------------------------------------------------------------------


def test_features_are_filled_up_where_that_changes_nothing():
    for features, found in ((1, 16), (16, 16), (17, 64), (64, 64), (65, 65)):
        assert program_shape(SHAPE._replace(features=features)).features == found
    muon = SHAPE._replace(solver="muon")
    assert program_shape(muon) == muon


@pytest.mark.parametrize(
    ("changes", "widens"),
    [
        ({}, True), ({"norm": "batch"}, True), ({"norm": "layer"}, False), ({"drops": True}, False),
        ({"solver": "lamb"}, False), ({"activation": "logistic"}, False),
        ({"activation": "softplus"}, False), ({"activation": "gelu"}, True),
    ],
)  # fmt: skip
def test_a_network_is_filled_up_where_units_of_weight_0_change_nothing(changes, widens):
    assert SHAPE._replace(**changes).widens == widens
    assert SHAPE._replace(**changes).takes_more_features == ("solver" not in changes)


def test_work_is_two_operations_a_weight_forward_and_four_back():
    assert operations(SHAPE, run_of()) == 6 * (3 * 5 + 5 * 1) * (3 * 4) * 7
    assert operations(SHAPE, run_of(incremental=True)) == 6 * 20 * 12


def test_a_batch_that_is_all_is_filled_up():
    sizes = [(4, 4), (10, 32), (32, 32), (33, 256), (257, 257)]
    for batch, entries in sizes:
        run = run_of(examples=10 if batch == 4 else batch, batch_size=batch)
        assert grouping._batch(run) == entries
    normed = run_of(SHAPE._replace(norm="batch"), examples=10, batch_size=10)
    assert grouping._batch(normed) == 10  # Its mean is over the examples.


def test_runs_share_a_program_where_that_is_less_work():
    few, many = run_of(), run_of(SHAPE._replace(hidden=(6,)))
    assert [group for group in grouped([few, many]).values()] == [[few, many]]
    ((shape, *_),) = grouped([few, many])
    assert shape.hidden == (6,)
    assert shape.features == 16
    deep = run_of(SHAPE._replace(hidden=(5, 5)))
    assert len(grouped([few, deep])) == 2
    # 5e10 operations take as long as to compile: here, of 16 + 1 weights a unit, over 3e6 units.
    wide = run_of(SHAPE._replace(hidden=(10**6,)))
    assert operations(program_shape(wide.shape), few) > COMPILATION / 7
    assert len(grouped([few] * 8 + [wide])) == 2
    assert len(grouped([few, wide])) == 1
    assert len(grouped([few, run_of(labels=np.arange(2))])) == 2
    assert len(grouped([few, run_of(held=(np.arange(2), np.ones(2), None))])) == 2


# --- weights -------------------------------------------------------------------------------------


def test_weights_are_filled_up_and_cut_to_size():
    like = [{"weight": np.zeros((4, 3)), "bias": np.zeros(3)},
            {"scale": np.zeros(3), "shift": np.zeros(3)},
            {"weight": np.zeros((3, 2)), "bias": np.zeros(2)}]  # fmt: skip
    coefs = [np.ones((2, 2)), np.full((2, 1), 2.0)]
    biases, others = [np.ones(2), np.ones(1)], [np.full(2, 3.0), np.full(2, 4.0)]
    tree = tree_of(like, coefs, biases, others)
    assert tree[0]["weight"].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert tree[1]["scale"].tolist() == [3, 3, 1]
    assert tree[1]["shift"].tolist() == [4, 4, 0]
    assert tree_of(like, coefs, biases, None)[1]["scale"].tolist() == [1, 1, 1]
    for found, expected in zip(lists_of(tree, [2, 2, 1]), (coefs, biases, others), strict=True):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_logistic_output_is_the_second_of_two_logits():
    outputs = np.arange(6.0).reshape(3, 1, 2)
    assert scores("logistic", outputs).tolist() == [[1], [3], [5]]
    assert scores("identity", outputs[..., :1]).tolist() == [[0], [2], [4]]
    assert scores("softmax", outputs[:, 0]).tolist() == outputs[:, 0].tolist()


@pytest.mark.parametrize("head", _HEADS)
def test_a_head_says_what_shape_it_returns(head):
    _, _, shape = _HEADS[head].init(None, (3,))
    y, state = _HEADS[head].apply({}, {}, np.arange(6.0).reshape(2, 3))
    assert (y.shape, state) == ((2, *shape), {})
    np.testing.assert_array_equal(scores(head, y), np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(("drops", "dropout"), [(True, 0.25), (False, 0.0)])
def test_the_network_is_a_perceptron_of_the_widths(monkeypatch, drops, dropout):
    asked = []
    monkeypatch.setattr(nets, "mlp", lambda *words, **named: asked.append((words, named)) or net)
    net, numbers = layers.Relu(), types.SimpleNamespace(dropout=0.25)
    shape = SHAPE._replace(drops=drops, activation="logistic", norm="rms", head="softmax")
    assert shape._network(numbers) is net  # The outputs are logits.
    named = {"activation": "sigmoid", "norm": "rms", "dropout": dropout}
    assert asked == [(([5, 1],), named)]
    assert shape._replace(head="logistic")._network(numbers) is not net


def test_a_held_set_is_as_large_as_its_rows():
    """Of more than 256 another program is compiled for every eighth more."""
    sizes = [10, 200, 300, 320, 321]
    runs = [run_of(held=(np.arange(n), np.ones((n, 1)), None)) for n in sizes]
    groups = grouped(runs)
    assert [held for (_, _, held, _) in groups] == [256, 320, 352]
    assert [len(group) for group in groups.values()] == [2, 2, 1]


def test_statistics_are_cut_to_the_widths_of_their_layers():
    """Two of each hidden layer: they come without the weights that stand between them."""
    like = [{"mean": np.zeros(4), "variance": np.zeros(4)}] * 2
    others = [np.full(n, value) for n, value in ((2, 5.0), (2, 6.0), (3, 7.0), (3, 8.0))]
    tree = tree_of(like, [], [], others)
    assert tree[0]["mean"].tolist() == [5, 5, 0, 0]
    assert tree[1]["variance"].tolist() == [8, 8, 8, 1]
    coefs, intercepts, found = lists_of(tree, [9, 2, 3, 1])
    assert coefs == intercepts == []
    assert [array.tolist() for array in found] == [array.tolist() for array in others]


@pytest.mark.parametrize("solver", ["sgd", "adam", "adamw", "lbfgs"])
def test_a_state_is_of_the_dtype_that_is_computed_in(solver):
    shape = SHAPE._replace(solver=solver, norm="batch", dtype="float64", schedule=CONSTANT)
    with precision("float64"), jax.numpy_dtype_promotion("standard"):
        state = shape.state
    assert (state.step.dtype, state.key.shape) == (np.int32, (2,))
    leaves = jax.tree.leaves((state.params, state.statistics, state.moments))
    assert {leaf.dtype for leaf in leaves if leaf.ndim} == {np.dtype(np.float64)}
    moments = sum(leaf.size for leaf in jax.tree.leaves(state.moments) if leaf.ndim)
    learned = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert moments == {"sgd": 1, "adam": 2, "adamw": 2, "lbfgs": 0}[solver] * learned


# --- what is compiled ----------------------------------------------------------------------------


def test_runs_fit_into_what_was_compiled_for_as_many_or_more():
    sizes = Sizes(SHAPE, 32, 2, 4, 256, True)
    assert sizes.hold(sizes)
    for name in ("rows", "steps", "examples"):
        less, more = (sizes._replace(**{name: getattr(sizes, name) + by}) for by in (-1, 1))
        assert sizes.hold(less)
        assert not sizes.hold(more)
    assert not sizes.hold(sizes._replace(batch=31))
    assert sizes.hold(sizes._replace(little=False))


def test_what_is_compiled_for_runs_of_a_shape(monkeypatch):
    """Steps are a power of 2; what computes little is compiled at once, and used again."""
    made = []

    class Group:
        def __init__(self, sizes, held, runs, examples):
            made.append((sizes, held, runs))

        def train(self):
            pass

    monkeypatch.setattr(training, "_Group", Group)
    monkeypatch.setattr(training, "set_up", lambda: None)
    x = np.zeros((300, 3))
    runs = [run_of(examples=10), run_of(examples=17)]
    found = training.train(runs, x)
    ((sizes, held, group),) = made
    assert (sizes.batch, sizes.rows, sizes.steps, sizes.examples) == (4, 2, 8, 320)  # Of 3 and 5.
    assert (sizes.little, held, group) == (True, None, runs)
    assert sizes.shape.features == 16
    assert found == {SHAPE: sizes}
    assert all(run.seconds >= 0 for run in runs)
    # Fewer steps fit; and a search says how many there are where these runs have fewer.
    assert training.train([run_of(examples=10)], x, found) == found
    assert training.train([run_of(examples=33)], x, found)[SHAPE].steps == 16
    assert training.train([run_of(examples=10)], x, longest=65)[SHAPE].steps == 32
    assert training.train([run_of(examples=10)], x, longest=5)[SHAPE].steps == 4
    much = run_of(max_iter=10**8)
    assert not training.train([much], x)[SHAPE].little
    # Much work is worth a program of its own.
    assert training.train([run_of(max_iter=10**8)], x, found)[SHAPE].rows == 1


def test_examples_lie_on_the_device_once(monkeypatch):
    placed = []
    monkeypatch.setattr(training, "placed", lambda array, sharding: placed.append(array) or array)
    examples = training._Examples(np.ones((2, 3)))
    sizes = Sizes(SHAPE._replace(features=4), 32, 1, 1, 5, True)
    found = examples.placed(sizes, None)
    assert found.tolist() == [[1, 1, 1, 0]] * 2 + [[0] * 4] * 3
    assert found.dtype == np.float32
    assert examples.placed(sizes._replace(rows=7), None) is found
    assert examples.placed(sizes._replace(examples=6), None) is not found
    assert len(placed) == 2


def test_runs_that_draw_the_same_share_an_order():
    def runs(state, shuffle=True):
        return [
            run_of(
                examples=examples,
                random=np.random.RandomState(seed),
                options=OPTIONS | {"random_state": state, "shuffle": shuffle},
            )
            for examples, seed in ((10, 0), (10, 0), (11, 0), (10, 1))
        ]

    orders = training._orders(runs(state=0))
    assert [orders.index(order) for order in orders] == [0, 0, 2, 3]
    first, second = next(orders[0]), next(orders[0])
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()
    assert len({id(order) for order in training._orders(runs(state=None))}) == 4
    assert next(training._orders(runs(0, shuffle=False))[0]).tolist() == list(range(10))
