import numpy as np
import pytest

from train.reproduce import errata
from train.reproduce.derivations import DERIVATIONS, Derivation, compare, shapes
from train.reproduce.errata import ERRATA

EVERY = [(name, i, d) for name, make in DERIVATIONS.items() for i, d in enumerate(make())]


@pytest.mark.slow
@pytest.mark.parametrize(
    "derivation", [d for *_, d in EVERY], ids=[f"{name}-{i}" for name, i, _ in EVERY]
)
def test_three_gradients_and_the_report_agree(derivation):
    loss, gradients = compare(derivation)
    assert [gradient.name for gradient in gradients] == list(derivation.arguments)
    for gradient in gradients:
        assert gradient.by_hand.dtype == np.float64
        assert gradient.by_hand.shape == derivation.arguments[gradient.name].shape
        np.testing.assert_allclose(gradient.by_hand, gradient.autodiff, rtol=1e-10, atol=1e-12)
        # Central differences err by h^2 f''' / 6, with f''' up to 1e5 next to a probability of 0.
        np.testing.assert_allclose(gradient.by_hand, gradient.differences, rtol=1e-6, atol=1e-8)
        if gradient.reported is not None:  # The report of E1 rounds to four digits.
            np.testing.assert_allclose(gradient.by_hand, gradient.reported, atol=5e-5)
    if derivation.reported_loss is not None:
        assert loss == pytest.approx(derivation.reported_loss, abs=1e-11)
    assert any(np.abs(gradient.by_hand).max() > 0.1 for gradient in gradients)


def test_a_wrong_gradient_is_seen():
    import jax

    double = jax.custom_vjp(lambda x: x.sum())
    double.defvjp(lambda x: (x.sum(), x), lambda x, dy: (2 * dy + 0 * x,))
    _, (gradient,) = compare(Derivation("wrong", double, {"x": np.ones(3)}))
    np.testing.assert_array_equal(gradient.by_hand, 2)
    np.testing.assert_array_equal(gradient.autodiff, 1)
    np.testing.assert_allclose(gradient.differences, 1, rtol=1e-9)


def test_shapes_are_those_of_the_tables():
    table = shapes()
    assert len(table) == 11
    for shape in table:
        assert shape.one == shape.reported_one
        assert shape.batch == shape.reported_batch
    assert {s.name: s.batch for s in shapes(7)}["dk/dw"] == (7, 784, 300)


@pytest.mark.slow
@pytest.mark.parametrize(
    "erratum", [e for several in ERRATA.values() for e in several], ids=lambda e: e.where
)
def test_the_report_is_wrong_and_the_correction_right(erratum):
    says, right, automatic = erratum.numbers()
    np.testing.assert_allclose(right, automatic, rtol=1e-9, atol=1e-12)
    assert says.shape != automatic.shape or not np.allclose(says, automatic, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_what_the_reports_say_is_their_formula():
    """Each by a property of its own: a sign, a part that is cut off, a part that is missing."""
    says, right, _ = ERRATA["E1"][0].numbers()
    np.testing.assert_allclose(says, -right)
    assert says.sum() == pytest.approx(0)
    says, right, _ = ERRATA["A1"][0].numbers()
    assert (says >= 0).all()
    passed = right != 0  # Where the ReLU lets the gradient through.
    np.testing.assert_allclose(says[passed], np.maximum(right[passed], 0))
    # Of the softmax of a vector, the gradient along (1, ..., 1) is 0; of the report's it is not.
    says, right, _ = ERRATA["B7"][0].numbers()
    assert right.sum() == pytest.approx(0)
    assert abs(says.sum()) > 0.1
    # The report's gradient of the first weights has the shape of the second ones' input.
    says, right, _ = ERRATA["C0"][0].numbers()
    assert (says.shape, right.shape) == ((10, 10), (4, 10))
    # With the rows mixed, the parts that the others add do not cancel within a row, but in all.
    says, right, _ = ERRATA["D1"][0].numbers()
    np.testing.assert_allclose(right.sum(1), 0, atol=1e-12)
    assert (np.abs(says.sum(1)) > 0.1).any()


class Known:
    """Random numbers that are noted."""

    def __init__(self):
        self._rng, self.drawn = np.random.RandomState(0), []

    def standard_normal(self, shape):
        self.drawn.append(self._rng.standard_normal(shape))
        return self.drawn[-1]


def test_the_formulas_of_softmax_are_those_of_the_reports(monkeypatch):
    """Entry by entry, as the reports write the Jacobian."""
    known = Known()
    monkeypatch.setattr(errata.np.random, "default_rng", lambda seed: known)
    says, _, _ = ERRATA["B7"][0].numbers()
    z, dy = known.drawn
    p, one = np.exp(z) / np.exp(z).sum(), np.eye(len(z))
    jacobian = [[p[i] * (one[i, j] - p[i]) for j in range(5)] for i in range(5)]
    np.testing.assert_allclose(says, dy @ np.array(jacobian))
    known.drawn.clear()
    says, _, _ = ERRATA["D1"][0].numbers()
    x, dy = known.drawn
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    expected = np.zeros((3, 4))
    for m, n, i, j in np.ndindex(3, 4, 3, 4):
        own = p[i, j] * (1 - p[i, j]) if n == j else -p[m, n] * p[i, j]
        expected[i, j] += dy[m, n] * (own if m == i else -p[m, n] * p[i, j])
    np.testing.assert_allclose(says, expected)
