"""How arrays are compared, and how far rounding is measured to carry them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets._checking.case import draw_case
from jaxnets._checking.differences import second_differences
from jaxnets._checking.rounding import rounding_spread
from jaxnets._checking.verdict import compare


def compared(got, expected, allowed, terms=None):
    arrays = [np.asarray(a, np.float32) for a in got], [np.asarray(a, float) for a in expected]
    labels = [f"array {n}" for n in range(len(got))]
    return compare("vjp", "float32", labels, *arrays, allowed, terms)


@pytest.mark.parametrize(("off", "status"), [(0.9, "passed"), (1.1, "failed"), (-1.1, "failed")])
def test_an_entry_may_be_off_by_what_is_allowed(off, status):
    """Of each array by its own, whichever of them it is."""
    limits = [2.0**-10, 2.0**-8]
    for place in (0, 1):
        got = [np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 4.0])]
        got[place][1] += off * limits[place]
        found = compared(got, [[1.0, 2.0, 4.0]] * 2, limits)
        assert found.status == status
        if status == "failed":
            assert found.message.startswith(f"array {place} at [1]: got ")


def test_the_worst_entry_is_named():
    found = compared([[1.5, 2.0], [1.0, 9.0]], [[1.0, 2.0], [1.0, 2.0]], [1e-3, 1e-3])
    assert found.message.startswith("array 1 at [1]: got 9, expected 2")


def test_the_error_in_ulps_is_the_largest_of_all_arrays():
    """In units of the largest entry of each array."""
    unit = 2.0**-23
    got = [[1.0 + 3 * unit, 0.5], [4.0 + 8 * 4 * unit, 1.0], [1.0 + unit, 1.0]]
    found = compared(got, [[1.0, 0.5], [4.0, 1.0], [1.0, 1.0]], [1e-3] * 3)
    assert found.status == "passed"
    assert found.ulps == pytest.approx(8)


def test_zeros_that_should_be_zeros_need_no_tolerance():
    assert compared([[0.0, 0.0]], [[0.0, 0.0]], [1e-6]).status == "passed"
    assert compared([[0.0, 1e-7]], [[0.0, 0.0]], [1e-6]).status == "inconclusive"
    assert compared([[0.0, 1e-5]], [[0.0, 0.0]], [1e-6]).status == "failed"


@pytest.mark.parametrize(("allowed", "status"), [(0.009, "passed"), (0.011, "inconclusive")])
def test_what_would_let_a_hundredth_of_an_array_pass_says_nothing(allowed, status):
    found = compared([[1.0, 0.5]], [[1.0, 0.5]], [allowed])
    assert found.status == status
    assert ("more than 1% of its largest entry" in found.message) == (status == "inconclusive")
    # An array that is 0 up to rounding is as large as its terms.
    assert compared([[1e-8]], [[0.0]], [1e-6], [1.0]).status == "passed"
    assert compared([[1e-8]], [[0.0]], [1e-6], [1e-5]).status == "inconclusive"


def test_what_is_not_finite_is_not_compared_and_what_should_be_is():
    assert compared([[np.inf, 1.0]], [[np.inf, 1.0]], [1e-3]).status == "passed"
    assert compared([[7.0, 1.0]], [[np.nan, 1.0]], [1e-3]).status == "passed"
    assert compared([[np.nan, 1.0]], [[2.0, 1.0]], [1e-3]).status == "failed"
    assert compared([[7.0]], [[np.inf]], [1e-3]).status == "skipped"
    found = compared([[1.0, 2.0]], [[1.0]], [1e-3])
    assert found.message == "array 0 has shape (2,), expected (1,)"


@pytest.mark.parametrize(
    ("got", "words"),
    [
        ([[2.0, 4.0], [6.0, 10.0]], "got / expected = 2.000 everywhere"),
        ([[-1.0, -2.0], [-3.0, -5.0]], "got / expected = -1.000 everywhere"),
        ([[0.0, 0.0], [0.0, 0.0]], "got / expected = 0 everywhere"),
        ([[1.0, 3.0], [2.0, 5.0]], "it is the transpose of the expected array"),
        ([[1.0, 2.0], [3.0, 6.0]], "1 of 4 entries are wrong"),
    ],
)
def test_a_simple_mistake_is_named(got, words):
    found = compared([got], [[[1.0, 2.0], [3.0, 5.0]]], [1e-4])
    assert found.message.endswith(words)


# --- rounding ------------------------------------------------------------------------------------


def spread_of(function, *arguments):
    (spread,) = rounding_spread(function, arguments, np.random.default_rng(0)).spreads
    return spread


def test_a_spread_is_the_root_of_the_mean_square():
    """The argument and the product are each moved by -1, 0 or 1 units, of variance 2/3 each."""
    x = jnp.full(4000, 1.5, jnp.float32)
    found = spread_of(lambda x: x * jnp.float32(1.25), x)
    unit = 1.5 * 1.25 * 2.0**-23
    assert np.sqrt(np.mean(found**2)) == pytest.approx(np.sqrt(4 / 3) * unit, rel=0.2)


@pytest.mark.parametrize("terms", [16, 400])
def test_a_sum_errs_as_its_partial_sums_do(terms):
    """n terms are each moved by sqrt(n) units, which together is n units of one.

    They add up to 0, so that what the sum itself is rounded to is nothing beside that.
    """
    signs = jnp.tile(jnp.float32([1, -1]), (500, terms // 2))
    found = spread_of(lambda x: x.sum(1), signs)
    expected = np.sqrt(2 / 3) * terms * 2.0**-23
    assert np.sqrt(np.mean(found**2)) == pytest.approx(expected, rel=0.3)


def test_second_differences_are_of_fourth_order():
    """Without the extrapolation they would be off by a sixth of the square of the step."""
    x = np.array([0.5, -1.0, 2.0])
    with jax.enable_x64(True):
        case = draw_case(jnp.sin, (jnp.asarray(x),), {}, np.random.default_rng(0))
        (found,), (moved,) = second_differences(case, step=1e-2)
    (point,), (cotangent,), (direction,) = case.floats, case.cotangents, case.directions
    expected = -np.sin(point) * np.asarray(cotangent) * np.asarray(direction)
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    assert (np.abs(moved) < 1e-4 * np.abs(expected)).all()


# --- in what way an array is wrong ---------------------------------------------------------------


def test_an_error_may_be_as_large_as_is_allowed():
    assert compared([[1.0 + 2.0**-10, 2.0]], [[1.0, 2.0]], [2.0**-10]).status == "passed"


def test_what_is_equal_has_no_error():
    assert compared([[1.0, 2.0]], [[1.0, 2.0]], [1e-3]).ulps == 0


@pytest.mark.parametrize(
    ("factor", "said"),
    [(0.0, "0"), (1.5, "1.500"), (-1.0, "-1.000"), (0.005, "0.005"), (2000.0, "2e+03")],
)
def test_a_factor_is_named(factor, said):
    """Also where rounding adds its part to each entry."""
    reference = np.array([1.0, -2.0, 4.0, 0.0])
    for off in (0.0, 1.5e-3):
        got = factor * reference + off * np.array([0.0, 0.0, 0.0, 1.0])
        found = compared([got], [reference], [1e-3])
        assert found.message.endswith(f"; got / expected = {said} everywhere")
    got = factor * reference + np.array([0.0, 0.0, 0.0, (2.5 + abs(factor)) * 1e-3])
    assert "everywhere" not in compared([got], [reference], [1e-3]).message


def test_a_transpose_is_named():
    reference = np.array([[1.0, 2.0], [3.0, 4.0]])
    found = compared([reference.T], [reference], [1e-3])
    assert found.message.endswith("; it is the transpose of the expected array")
    wide = np.array([[1.0, 2.0, 5.0], [3.0, 4.0, 6.0]])
    found = compared([wide[::-1]], [wide], [1e-3])
    assert "transpose" not in found.message
    single = compared([[[2.0]]], [[[1.0]]], [1e-3])
    assert single.message.startswith("array 0 at [0, 0]: got 2, expected 1, off by 1 of the")
    assert ";" not in single.message


def test_a_few_wrong_entries_are_counted():
    reference = np.arange(1.0, 21.0)
    for count, said in ((1, True), (2, True), (3, False)):
        got = reference.copy()
        got[:count] += 0.5
        message = compared([got], [reference], [1e-3]).message
        assert message.endswith(f"; {count} of 20 entries are wrong") == said
    two = compared([[1.0, 3.0]], [[1.0, 2.0]], [1e-3])
    assert two.message.endswith("; 1 of 2 entries are wrong")


def test_an_array_of_another_shape_is_wrong():
    found = compared([[1.0, 2.0]], [[[1.0, 2.0]]], [1e-3])
    assert found.message == "array 0 has shape (2,), expected (1, 2)"
    assert (found.status, found.ulps) == ("failed", np.inf)


def test_entries_without_a_finite_reference_are_not_compared():
    found = compared([[1.0, 5.0]], [[1.0, np.inf]], [1e-3])
    assert (found.status, found.ulps) == ("passed", 0)
    found = compared([[1.0], [5.0]], [[np.nan], [np.inf]], [1e-3, 1e-3])
    assert found.status == "skipped"
    assert found.message == "array 0, array 1: no finite reference"
    found = compared([[np.nan, 2.0]], [[1.0, 2.0]], [1e-3])
    assert found.status == "failed"
    assert found.message.startswith("array 0 at [0]: got nan, expected 1 (rounding explains 0.001)")


def test_an_error_is_said_beside_the_largest_entry():
    found = compared([[4.0, 2.5]], [[4.0, 2.0]], [0.125])
    assert "off by 0.12 of the array's largest entry (rounding explains 0.031)" in found.message
    zero = compared([[0.0, 0.5]], [[0.0, 0.0]], [0.125])
    assert "got 0.5, expected 0 (rounding explains 0.12)" in zero.message
