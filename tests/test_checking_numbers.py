"""What the checker allows, and what it makes of differences: numbers that can be worked out."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets._checking import differences, reference, rounding
from jaxnets._checking.case import both_gradients, draw_case, hessian_product, redrawn
from jaxnets._checking.differences import _Lines, _Slope
from jaxnets._checking.reference import Results, Tolerance
from jaxnets._checking.rounding import Rounded

EPS = 2.0**-23

# --- how far rounding goes -----------------------------------------------------------------------


def last_equation(function, *arguments):
    return jax.make_jaxpr(function)(*arguments).jaxpr.eqns[-1]


IMAGE, KERNEL = jnp.ones((1, 5, 4, 3)), jnp.ones((3, 2, 3, 7))
CONVOLVED = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (jnp.dot, (jnp.ones((2, 5)), jnp.ones((5, 3))), (5, 1)),
        (lambda a, b: jnp.einsum("abi,abj->ij", a, b), (jnp.ones((2, 5, 3)),) * 2, (10, 1)),
        (lambda x: jax.lax.cumsum(x, 1), (jnp.ones((2, 6)),), (6, 1)),
        (lambda x: jax.lax.reduce_sum_p.bind(x, axes=(0, 2), out_sharding=None),
         (jnp.ones((2, 5, 3)),), (6, 1)),
        (lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", **CONVOLVED),
         (IMAGE, KERNEL), (3 * 2 * 3, 1)),
        (lambda x: jax.lax.while_loop(lambda x: x < 5, lambda x: x * 2.0, x), (1.0,), (1, 100)),
        (lambda x: jax.lax.scan(lambda c, _: (c * 2.0, None), x, None, 7)[0], (1.0,), (1, 7)),
        (jnp.sin, (1.0,), (1, 1)),
    ],
)  # fmt: skip
def test_an_equation_adds_so_many_terms_and_takes_so_many_steps(function, arguments, expected):
    assert rounding._summed(last_equation(function, *arguments)) == expected


@pytest.mark.parametrize(
    ("function", "discrete", "chooses"),
    [
        (lambda x: jnp.sin(x) * 2.0, False, False),
        (jnp.floor, True, True),
        (lambda x: jnp.maximum(x, 0.0), False, True),
        (lambda x: x > 0, True, True),
        (lambda x: x.astype(jnp.int32), True, False),
        (lambda x: x.astype(jnp.float16), False, False),
        (lambda x: jax.jit(lambda x: jnp.round(x))(x), True, True),
    ],
)
def test_a_program_may_round_or_choose(function, discrete, chooses):
    jaxpr = jax.make_jaxpr(function)(jnp.ones(3))
    assert rounding._is_discrete(jaxpr) == discrete
    assert rounding._chooses(jaxpr) == chooses


def test_dtypes_and_the_largest_array_of_a_program():
    def f(x):
        y = jax.jit(lambda x: jnp.outer(x, x).astype(jnp.float16).sum())(x)
        return y, jnp.arange(3)

    jaxpr = jax.make_jaxpr(f)(jnp.ones(4))
    assert {str(dtype) for dtype in rounding.dtypes_of(jaxpr)} == {"float32", "float16"}
    assert rounding.largest_size(jaxpr.jaxpr) == 16
    assert rounding.largest_size(jax.make_jaxpr(lambda x: x)(jnp.ones(5)).jaxpr) == 5
    assert rounding.largest_size(jax.make_jaxpr(lambda: 1.0)().jaxpr) == 1
    pools = rounding.pools_for(5, np.random.default_rng(0))
    assert pools.shape == (1 + 8, 5 + 4096)
    assert not pools[0].any()
    assert {*np.unique(pools[1:])} == {-1, 0, 1}


def nudged(value, pool, units=1.0, discrete=False):
    pool = np.full(np.size(value) + rounding._STARTS, pool, np.int8)
    return np.float64(rounding._Nudges(pool, discrete).apply(jnp.asarray(value), units))


def test_a_nudge_is_a_unit_in_the_last_place():
    value = np.float32([1.0, -1.5, 0.0])
    np.testing.assert_array_equal(nudged(value, 1), value * (1 + EPS))
    np.testing.assert_array_equal(nudged(value, -1), np.float32(value * (1 - EPS)))
    np.testing.assert_array_equal(nudged(value, 0), value)
    np.testing.assert_allclose(nudged(value, 1, units=64.0), value * (1 + 64 * EPS))
    np.testing.assert_array_equal(nudged(value, 1, units=1e9), value * 1.25)  # No more than that.
    assert nudged(np.int32([3]), 1).tolist() == [3]


def test_an_integer_that_is_counted_is_not_nudged():
    value = np.float32([3.0, 3.5, 2.0**19, 2.0**19 + 1, -3.0])
    found = nudged(value, 1, units=4.0, discrete=True) != value
    assert found.tolist() == [False, True, False, True, False]
    assert (nudged(value, 1, units=4.0) != value).all()


def test_every_result_takes_other_nudges():
    pool = np.random.default_rng(0).integers(-1, 2, 20 + rounding._STARTS).astype(np.int8)
    nudges, value = rounding._Nudges(pool, False), jnp.ones(20)
    several = [nudges.apply(value, 1.0).tolist() for _ in range(5)]
    assert len({tuple(one) for one in several}) == 5


@pytest.mark.parametrize(("spread", "hidden"), [(0.01 / 16, False), (0.0101 / 16, True)])
def test_rounding_hides_an_array_where_it_explains_a_hundredth(spread, hidden):
    value = np.array([1.0, -4.0, np.inf])
    assert rounding._is_hidden(value, np.array([0.0, 4 * spread, 0.0])) == hidden
    assert not rounding._is_hidden(np.zeros(0), np.zeros(0))


def test_a_spread_is_the_root_mean_square_of_the_samples(monkeypatch):
    stack = np.zeros((9, 2), np.float32)
    stack[:, 0], stack[:, 1] = 1.0, np.inf
    stack[1:5, 0] += 0.5
    stack[5, 0] = np.inf  # An overflow of one sample says nothing.
    monkeypatch.setattr(rounding, "run", lambda *a, **k: [stack])
    found = rounding._measured(None, None, None, None, True)
    np.testing.assert_array_equal(found.values[0], [1, np.inf])
    np.testing.assert_allclose(found.spreads[0], [np.sqrt(4 * 0.25 / 8), 0])
    assert found.epsilons == [EPS]


@pytest.mark.parametrize(
    ("function", "spread", "asked"),
    [
        (lambda x: [jnp.maximum(x, 0.0)], 0.5, [True, False]),
        (lambda x: [jnp.maximum(x, 0.0)], 1e-7, [True]),
        (lambda x: [x * 2.0], 0.5, [True]),
    ],
)
def test_where_rounding_hides_a_choice_the_arguments_are_exact(
    monkeypatch, function, spread, asked
):
    """Two that are equal would be another case of it."""
    seen = []

    def measured(jaxpr, flat, pools, key, inputs):
        seen.append(inputs)
        return rounded([1.0, 8.0], spread=spread if inputs else 0.001, epsilon=EPS)

    monkeypatch.setattr(rounding, "_measured", measured)
    found = rounding.rounding_spread(function, (jnp.ones(2),), np.random.default_rng(0))
    assert seen == asked
    assert found.spreads[0].tolist() == [0.001 if len(asked) == 2 else spread] * 2


def test_what_was_measured_in_a_narrow_dtype_is_scaled(x64):
    """As long as it is one dtype, and finite in the same places."""
    x, rng = np.array([1.0, 0.0]), np.random.default_rng(0)
    narrow = Rounded([np.array([3.0, 0.0])], [np.array([0.5, 0.25])], [EPS])
    wide = 2.0**-52
    found = rounding.rounding_spread(lambda x: [3.0 * x], (x,), rng, narrow)
    np.testing.assert_array_equal(found.values[0], [3, 0])
    np.testing.assert_allclose(found.spreads[0], [0.5 * wide / EPS, 0.25 * wide / EPS])
    assert found.epsilons == [wide]
    for other in (
        narrow._replace(epsilons=[2.0**-7]),  # Of half precision.
        narrow._replace(values=[np.array([np.inf, 0.0])]),
        None,
    ):
        found = rounding.rounding_spread(lambda x: [3.0 * x], (x,), rng, other)
        assert 0 < found.spreads[0][0] < 100 * wide


# --- what is allowed -----------------------------------------------------------------------------


def test_a_tolerance_is_that_of_the_closest_name():
    tolerance = Tolerance({"w": 0.5, "w['a']": 0.25}, 2.0, None)
    assert tolerance.beside("w['a'][0]", 8.0) == 0.25 * 8 + 2
    assert tolerance.beside("w['b']", 8.0) == 0.5 * 8 + 2
    assert tolerance.beside("w", 8.0) == tolerance.beside("w.x", 8.0) == 0.5 * 8 + 2
    assert tolerance.beside("weights", 8.0) == 2
    assert tolerance.of_values == 0.5
    assert Tolerance(0.125, {}, None).of_values == 0.125
    assert Tolerance({}, {}, None).of_values == 0


def test_a_large_gradient_is_compared_along_directions():
    case = types.SimpleNamespace(floats=[np.zeros((16, 16)), np.zeros(257), np.zeros(())])
    small, large, scalar = reference.probes_of(case)
    assert small is scalar is None
    assert large.shape == (32, 257)
    assert {*np.unique(large)} == {-1, 1}
    gradient = np.float32([[1.0, 2.0], [3.0, 4.0]])
    probes = np.array([[[1.0, 1.0], [1.0, -1.0]], [[0.0, 0.0], [0.0, 1.0]]])
    found = reference.along(probes, gradient)
    assert (found.tolist(), found.dtype) == ([2, 4], np.float32)
    assert reference.along(None, gradient) is gradient


def rounded(*values, spread=0.0, epsilon=0.0):
    arrays = [np.asarray(value, float) for value in values]
    return Rounded(arrays, [np.full(a.shape, spread) for a in arrays], [epsilon] * len(arrays))


def test_float64_is_no_reference_where_the_function_is_another_there():
    """It differs by more than a twentieth, and by more than rounding explains."""
    cases = (0.19, 0.0, True), (0.21, 0.0, False), (0.29995, 1e-4, True), (0.30005, 1e-4, False)
    for off, spread, same in cases:
        given, exact = rounded([1.0, 4.0 + off], spread=spread), rounded([1.0, 4.0])
        found = reference._expected(given, exact)
        assert found.values[0][1] == (4.0 if same else 4.0 + off)
        assert found.allowed[0][1] == pytest.approx(
            16 * off if same else 16 * spread, rel=1e-9, abs=1e-30
        )
    nothing = reference._expected(rounded([0.0]), None)
    assert 0 < nothing.allowed[0][0] < 2e-38  # The least that float32 tells from 0.
    infinite = reference._expected(rounded([np.inf, 1.0]), rounded([np.inf, 1.0]))
    assert infinite.allowed[0][0] == pytest.approx(0, abs=1e-30)


def test_what_rounding_does_to_one_array_it_may_do_to_another():
    arrays = [np.array([1.0, -2.0]), np.array([4.0]), np.zeros(2), np.array([np.nan])]
    allowed = [np.array([0.0, 0.01]), np.array([0.4]), np.ones(2), np.ones(1)]
    found = reference._relative(reference.Expected(arrays, allowed), [EPS])
    assert found == [0.005, 0.1, 0.005, 0.005]  # 0.1 is more than rounding itself.
    found = reference._relative(reference.Expected(arrays, [0.0 * a for a in allowed]), [EPS])
    assert found == [16 * EPS] * 4
    hundredth = reference.Expected([np.array([1.0]), np.zeros(1)], [np.array([0.01]), np.zeros(1)])
    assert reference._relative(hundredth, [EPS]) == [0.01, 0.01]
    small = reference.Expected([np.array([0.5])], [np.array([0.001])])
    assert reference._relative(small, [EPS]) == [0.002]


def test_a_tolerance_that_is_declared_is_beside_the_largest_finite_entry():
    case = types.SimpleNamespace(
        cotangents=[1], float_names=["x", "w"], floats=[np.zeros(2), np.zeros(1)]
    )
    given = Results(rounded([1.0], [2.0, -4.0], [np.inf]), rounded([1.0, 1.0], [8.0]))
    tolerance = Tolerance({"x": 0.5}, {"w": 3.0}, None)
    found = reference.expectation(case, given, None, None, tolerance)
    np.testing.assert_allclose(found.gradients.allowed[0], [2, 2])
    np.testing.assert_allclose(found.gradients.allowed[1], [3])
    np.testing.assert_allclose(found.second.allowed[0], [0.5, 0.5])
    np.testing.assert_allclose(found.relative, [0.5, 0.5, 3.0], rtol=1e-6)
    assert found.probes == [None, None]
    alone = reference.expectation(case, given._replace(second=None), None, ["p", "q"], tolerance)
    assert alone.second is None
    assert alone.probes == ["p", "q"]


GIVEN = types.SimpleNamespace(dtype="float32", name="given")
WIDE = types.SimpleNamespace(dtype="float64", name="wide")
FOUND = Results(rounded([1.0]), rounded([2.0]))


@pytest.mark.parametrize(
    ("works", "given", "exact", "expected"),
    [
        ({("a", "given"), ("a", "wide")}, GIVEN, WIDE, "a in float64"),
        ({("a", "given")}, GIVEN, WIDE, "a in float32"),
        ({("b", "wide")}, GIVEN, WIDE, "b in float64"),
        ({("b", "given")}, GIVEN, None, "b in float32"),
        ({("a", "wide")}, WIDE, WIDE, "a in float64"),
        (set(), GIVEN, WIDE, "central differences"),
    ],
)
def test_the_first_way_to_a_reference_that_works_is_taken(
    monkeypatch, works, given, exact, expected
):
    asked = []

    def way(name):
        def run(case, rng, narrow):
            asked.append((name, case.name, narrow))
            if (name, case.name) not in works:
                raise TypeError("no derivative")
            return FOUND

        return run

    monkeypatch.setattr(reference, "_WAYS", (("a", way("a")), ("b", way("b"))))
    name, exact_results, given_results = reference.first_that_works(given, exact, None)
    assert name == expected
    if expected == "central differences":
        assert str(exact_results).startswith("TypeError: no derivative (test_checking_numbers.py")
    for way_, case, narrow in asked:  # What the narrow dtype gave is used in the wide one.
        wide = case == "wide" and (way_, "given") in works and given is GIVEN
        assert narrow is (FOUND if wide else None)
    if given is WIDE:  # It is not done twice.
        assert given_results == ""
        assert len(asked) == 1


@pytest.mark.parametrize("twice", [True, False])
def test_autodiff_differentiates_twice_where_that_works(monkeypatch, twice):
    """Of two outputs and one argument; what was measured in a narrow dtype is handed on."""
    asked = []

    def spread(function, arguments, rng, narrow, key):
        asked.append((len(arguments), narrow, key))
        if len(arguments) == 3 and not twice:
            raise TypeError("no second order")
        return rounded(*[[float(n)] for n in range(4 if len(arguments) == 3 else 3)])

    monkeypatch.setattr(reference, "rounding_spread", spread)
    case = types.SimpleNamespace(
        floats=[1], cotangents=[1, 2], directions=[1], key=lambda name: name, twin=None
    )
    found = reference.by_autodiff(case, None, FOUND)
    assert [value.tolist() for value in found.first.values] == [[0], [1], [2]]
    assert len(found.first.spreads) == len(found.first.epsilons) == 3
    assert asked[0][0] == 3
    assert asked[0][2] == "both orders"
    assert len(asked[0][1].values) == 2
    if twice:
        assert [value.tolist() for value in found.second.values] == [[3]]
        assert len(found.second.spreads) == len(found.second.epsilons) == 1
    else:
        assert found.second is None
        assert asked[1] == (2, FOUND.first, "first order")
        reference.by_autodiff(case, None, None)
        assert asked[-1] == (2, None, "first order")


@pytest.mark.parametrize("works", [True, False])
def test_without_a_gradient_the_values_alone_are_known(monkeypatch, works):
    def spread(function, arguments, rng):
        if not works:
            raise TypeError("it looks at concrete values")
        return rounded([0.5, -0.25], spread=EPS, epsilon=EPS)

    monkeypatch.setattr(reference, "rounding_spread", spread)
    case = types.SimpleNamespace(
        floats=[1, 2], explicit=None, run=lambda *a: [np.float32([0.5, -0.25])]
    )
    found = reference.values_alone(case, None)
    assert found.gradients is found.second is None
    assert found.probes == [None, None]
    each = EPS if works else 8 * EPS * 0.5
    np.testing.assert_allclose(
        found.values.allowed[0], 16 * (each + EPS * np.array([0.5, 0.25])) + EPS * 0.5, rtol=1e-6
    )
    relative = max(64 * EPS, found.values.allowed[0].max() / 0.5)
    np.testing.assert_allclose(found.relative, [relative] * 3, rtol=1e-6)


def test_first_and_second_order_are_one_program():
    joined = reference._joined(FOUND)
    assert [value.tolist() for value in joined.values] == [[1], [2]]
    assert len(joined.spreads) == len(joined.epsilons) == 2
    assert reference._joined(None) is reference._joined(FOUND._replace(second=None)) is None


def test_derivatives_of_a_cube():
    x, ct, d = jnp.float32([1.0, 2.0]), jnp.float32([1.0, 10.0]), jnp.float32([3.0, 5.0])
    first, second = both_gradients(lambda x: [x**3], [x], [ct], [d])
    for found, expected in zip((*first, *second), ([1, 8], [3, 120], [18, 600]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    (product,) = hessian_product(lambda x: [x**3], [x], [ct], [d])
    np.testing.assert_allclose(product, [18, 600], rtol=1e-6)


def test_another_point_is_drawn_by_the_mean_and_spread_of_the_first():
    rng = np.random.default_rng(0)
    arrays = (np.full(5000, 3.0, np.float32), np.zeros(5000, np.float32),
              np.float32(rng.normal(-2.0, 0.5, 5000)))  # fmt: skip
    case = draw_case(lambda a, b, c: a + b + c, tuple(map(jnp.asarray, arrays)), {}, rng)
    found = redrawn(case, None, np.random.default_rng(1)).floats
    for array, (mean, std) in zip(found, ((3, 3), (0, 1), (-2, 0.5)), strict=True):
        assert np.mean(array) == pytest.approx(mean, abs=0.15)
        assert np.std(array) == pytest.approx(std, rel=0.05)
    sampled = redrawn(case, lambda rng, name, array: array + {"a": 1, "b": 2, "c": 3}[name], rng)
    for before, after, step in zip(case.floats, sampled.floats, (1, 2, 3), strict=True):
        np.testing.assert_allclose(after - before, step, rtol=1e-5)
    assert not np.array_equal(sampled.cotangents[0], case.cotangents[0])


# --- central differences -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slope", "status", "message"),
    [
        (_Slope("agrees"), "passed", ""),
        (_Slope("failed", "3, not 4"), "failed", "gradient of x: 3, not 4"),
        (_Slope("hidden"), "inconclusive", "rounding hides the slope in x"),
        (_Slope("rough"), "skipped", "no smooth point found near x"),
        (_Slope("own"), "skipped", "autodiff's own gradient of x differs from central differences"),
    ],
)
def test_what_is_said_of_a_slope(slope, status, message):
    found = differences._as_check("f", types.SimpleNamespace(dtype="float64"), "x", slope, "x")
    assert (found.name, found.dtype, found.status, found.gradient) == ("f", "float64", status, "x")
    assert found.message.startswith(message)
    assert found.ulps == 0
    assert bool(found.message) == bool(message)


@pytest.mark.parametrize("size", [1.0, 0.01])
def test_an_entry_is_moved_by_its_own_size(size):
    """One of 0 by a tenth of the others'."""
    value = size * np.array([3.0, 0.0, -4.0, 0.0])
    moves = np.array([differences._moved(value, 0.1, np.random.default_rng(n)) - value
                      for n in range(400)])  # fmt: skip
    typical = size * np.sqrt(25 / 4)
    bounds = 0.1 * (np.abs(value) + 0.1 * typical)
    assert (np.abs(moves) <= bounds).all()
    assert (moves.max(0) > 0.95 * bounds).all()
    assert (moves.min(0) < -0.95 * bounds).all()
    zeros = differences._moved(np.zeros(1000), 1.0, np.random.default_rng(0))
    assert 0.09 < np.abs(zeros).max() <= 0.1
    like = differences._moved(np.zeros(4), 1.0, np.random.default_rng(0), value)
    assert 0 < np.abs(like[1]) <= 0.1 * typical
    assert differences._moved(np.zeros(0), 1.0, np.random.default_rng(0)).size == 0
    assert differences._moved(np.float32([1.0]), 1.0, np.random.default_rng(0)).dtype == np.float32


def test_a_point_nearby_keeps_the_structure():
    def project(name, direction):
        return direction * {"x": 0.5}[name]

    assert differences._kept(project, "x", np.array(2.0), np.array(4.0)) == 3
    assert differences._kept(None, "x", np.array(2.0), np.array(4.0)) == 4


class Scripted:
    """Lines whose slopes are written down."""

    def __init__(self, *verdicts, names=("x",), dtype="float64"):
        self.case = types.SimpleNamespace(
            float_names=names, floats=[np.ones(3) for _ in names], dtype=dtype, twin=None
        )
        self.verdicts, self.asked = list(verdicts), []

    def along(self, floats, position, direction, step):
        self.asked.append((floats, position, direction, step))
        found = self.verdicts.pop(0)
        return found if isinstance(found, _Slope) else _Slope(found)


def test_rough_points_are_left_for_smaller_steps_nearby():
    lines = Scripted("rough", "hidden", "agrees")
    rng = np.random.default_rng(0)
    assert differences._judge(lines, 0, rng, None, False).verdict == "agrees"
    assert [step for *_, step in lines.asked] == [1e-3, 1e-4, 1e-5]
    moved = [np.array_equal(floats[0], np.ones(3)) for floats, *_ in lines.asked]
    assert moved == [True, False, False]  # Its own value first.
    lines = Scripted(*["rough"] * 6, dtype="float32")
    assert differences._judge(lines, 0, rng, None, False).verdict == "rough"
    assert [step for *_, step in lines.asked] == [3e-2, 1e-2, 1e-2, 3e-3, 3e-3, 3e-3]
    lines = Scripted("agrees")
    differences._judge(lines, 0, rng, lambda name, d: np.full(3, 7.0), False)
    np.testing.assert_array_equal(lines.asked[0][2], [7, 7, 7])


def test_each_argument_is_judged_and_the_worst_is_said(monkeypatch):
    asked = []

    def judge(lines, position, rng, project, judged):
        asked.append(position)
        return _Slope(verdicts[position])

    monkeypatch.setattr(differences, "_judge", judge)
    monkeypatch.setattr(
        differences, "_Lines", lambda case, function: types.SimpleNamespace(case=case)
    )
    case = types.SimpleNamespace(float_names=["x", "w", "b"], dtype="float64", explicit=None)

    def found(*several, **options):
        verdicts[:] = several
        asked.clear()
        checks = differences.finite_differences("f", case, None, **options)
        return [(check.status, check.gradient) for check in checks]

    verdicts = []
    assert found("agrees", "agrees", "agrees") == [("passed", "")]
    assert asked == [0, 1, 2]
    assert found("agrees", "rough", "agrees") == [("skipped", "")]
    assert found("agrees", "rough", "hidden") == [("inconclusive", "")]
    assert found("hidden", "failed", "agrees") == [("failed", "")]
    assert asked == [0, 1]  # The first that is wrong is enough.
    assert found("agrees", "failed", "rough", alone=True) == [
        ("passed", "x"), ("failed", "w"), ("skipped", "b")
    ]  # fmt: skip
    assert asked == [0, 0, 0, 1, 2]  # Three directions stand for a gradient.


def blamed(monkeypatch, own, along, value, judged=False, step=1e-3):
    """What becomes of a disagreement; `own` is autodiff's verdict, or an error."""
    lines = Scripted(*along)

    class Twin:
        def __init__(self, case, function):
            pass

        def along(self, *arguments):
            if isinstance(own, Exception):
                raise own
            return _Slope(own)

    monkeypatch.setattr(differences, "_Lines", Twin)
    slope, direction = _Slope("failed", "along a random direction"), np.full(value.shape, 2.0)
    direction.flat[-1] = 5.0
    found = differences._blamed(lines, [value], 0, direction, step, slope, judged)
    return found, slope, lines


def test_a_disagreement_is_blamed_on_the_rule_unless_autodiff_disagrees_too(monkeypatch):
    vector = np.array([1.0, -2.0])
    found, slope, _ = blamed(monkeypatch, "agrees", [], vector)
    assert found is slope
    found, slope, _ = blamed(monkeypatch, "failed", [], vector)
    assert found is slope
    found, _, _ = blamed(monkeypatch, "failed", [], vector, judged=True)
    assert found.verdict == "own"
    symmetric = np.array([[1.0, 2.0], [2.0, 3.0]])
    found, _, lines = blamed(monkeypatch, "failed", ["agrees"], symmetric)
    assert found.verdict == "agrees"  # Along a direction that keeps it symmetric.
    np.testing.assert_array_equal(lines.asked[0][2], [[2, 2], [2, 5]])


def test_where_autodiff_does_not_run_the_entry_is_named(monkeypatch):
    error = TypeError("no derivative")
    wrong = _Slope("failed", "along a random direction it gives 3")
    found, _, lines = blamed(monkeypatch, error, ["agrees", wrong], np.array([0.0, -2.0]))
    assert found.message == "along entry [1] it gives 3"
    np.testing.assert_array_equal(lines.asked[0][2], [1, 0])  # An entry of 0 by 1.
    np.testing.assert_array_equal(lines.asked[1][2], [0, 2])
    found, slope, lines = blamed(monkeypatch, error, ["agrees"] * 64, np.ones(64))
    assert found is slope  # No entry alone is wrong.
    assert len(lines.asked) == 64
    found, slope, lines = blamed(monkeypatch, error, [], np.ones(65))
    assert found is slope
    assert lines.asked == []
    found, slope, _ = blamed(monkeypatch, error, [wrong], np.array(3.0))
    assert found is slope  # A scalar has no entries.


def line(values, expected, *, step=0.5, noise=0.0, typical=1.0, size=1.0, largest=0.0,
         tolerance=None):  # fmt: skip
    """The slope of a function of which the values at 0, 1, -1, 1/2, -1/2 steps are known."""
    lines = object.__new__(_Lines)
    lines.case = types.SimpleNamespace(eager=False, floats=[np.ones(2)], float_names=["x"])
    lines.pools, lines.tolerance = None, tolerance
    lines.call = lambda *arguments: (
        np.array(values, float), size, expected, typical, noise, largest
    )  # fmt: skip
    return lines.along([np.ones(2)], 0, np.array([1.0, -2.0]), step)


def values_of(function, step=0.5):
    return [function(step * time) for time in (0.0, 1.0, -1.0, 0.5, -0.5)]


@pytest.mark.parametrize("eager", [False, True])
def test_values_and_slopes_along_a_line(eager):
    """Of 0.25 x + 0.5 w, for the cotangent (1, -0.5), where x moves by d."""
    x, w, d = np.float32([8.0, 4.0]), np.float16([2.0, 6.0]), np.float32([3.0, 2.0])

    def function(x, w):
        return 0.25 * x + 0.5 * w.astype(x.dtype)

    arrays = jnp.asarray(x), jnp.asarray(w)
    case = draw_case(function, arrays, {}, np.random.default_rng(0))
    case = dataclasses.replace(case, cotangents=[np.float32([1.0, -0.5])], eager=eager)
    lines = _Lines(case, case.explicit)
    times = jnp.float32([0.0, 1.0, -1.0])
    directions = [jnp.asarray(d), jnp.zeros(2)]
    sums, size, expected, typical, noise, largest = lines._program(
        [jnp.asarray(x), jnp.asarray(w)], directions, times, lines.pools
    )
    np.testing.assert_allclose(sums, [3 - 2, 3.75 - 2.25, 2.25 - 1.75])
    np.testing.assert_allclose(
        [size, expected, typical, largest], [5, 0.5, np.hypot(0.75, 0.25), 0.5], rtol=1e-6
    )
    if eager:  # Eight units in the last place of the terms' size, in the dtype of the first.
        assert noise == pytest.approx(5 * 8 * EPS)
    else:  # Arguments are rounded, too, each in its own dtype: 2^13 times that.
        assert 2.0**-10 / 10 < noise < 20 * 2.0**-10


def test_a_slope_is_exact_for_a_polynomial_of_fourth_order():
    """Its error is of the order of the step to the fourth; the step's own is allowed for."""
    polynomial = values_of(lambda t: 7 + 3 * t + 5 * t**2 + 0.0 * t**3)
    assert line(polynomial, 3.0).verdict == "agrees"
    found = line(polynomial, 3.001)
    assert found.verdict == "failed"
    assert found.message == (
        "along a random direction it gives 3.001, central differences 3 (allowed difference "
        "1e-07, step 0.5)"
    )
    cubic = values_of(lambda t: 3 * t + 0.25 * t**3)
    assert line(cubic, 3.0).verdict == "hidden"  # The step explains a twentieth.
    assert "gives 4, central differences 3 " in line(cubic, 4.0).message


@pytest.mark.parametrize(
    ("step", "change", "verdict"),
    [
        # Of the slope from a step to its half: a hundred-thousandth, or the step squared.
        (1e-3, 0.9e-5, "agrees"),
        (1e-3, 1.1e-5, "rough"),
        (1e-2, 0.9e-4, "agrees"),
        (1e-2, 1.1e-4, "rough"),
    ],
)
def test_a_slope_that_changes_with_the_step_is_rough(step, change, verdict):
    cubic = values_of(lambda t: 3 * t + change / (0.75 * step**2) * t**3, step)
    assert line(cubic, 3.0, step=step).verdict == verdict


def test_rounding_explains_a_difference():
    straight = values_of(lambda t: 3 * t)
    assert line(straight, 3.0, noise=0.5 * 0.009 / 16).verdict == "agrees"
    assert line(straight, 3.0, noise=0.5 * 0.011 / 16).verdict == "hidden"
    assert line(straight, 3.005, noise=0.5 * 0.009 / 16).verdict == "agrees"
    assert line(straight, 3.01, noise=0.5 * 0.009 / 16).verdict == "failed"
    # Where the slope is 0, the values are what rounding is small beside.
    flat = values_of(lambda t: 7.0)
    assert line(flat, 0.0, typical=0.0, noise=0.5 * 0.009 / 16, size=1.0).verdict == "agrees"
    assert line(flat, 0.0, typical=0.0, noise=0.5 * 0.009 / 16, size=0.1).verdict == "hidden"


def test_a_declared_tolerance_is_that_of_all_entries():
    straight = values_of(lambda t: 3 * t)
    tolerance = Tolerance(0.0, 0.1, None)  # Times 1 + 2, the entries of the direction.
    assert line(straight, 3.29, tolerance=tolerance).verdict == "agrees"
    assert line(straight, 3.31, tolerance=tolerance).verdict == "failed"
    relative = Tolerance(0.05, 0.0, None)
    assert line(straight, 3.29, tolerance=relative, largest=2.0).verdict == "agrees"
    assert line(straight, 3.31, tolerance=relative, largest=2.0).verdict == "failed"


@pytest.mark.parametrize(
    "function",
    [abs, lambda t: max(t, 0.0), lambda t: np.inf if t > 0.3 else t, lambda t: np.sin(40 * t)],
)
def test_a_kink_is_rough(function):
    assert line(values_of(function), 0.3).verdict == "rough"


def test_second_differences_are_those_of_the_gradient():
    case = types.SimpleNamespace(
        floats=[np.array([1.0, 2.0])], directions=[np.array([3.0, 5.0])],
        run=lambda program, *arguments: [
            np.array([values_of(lambda t, k=k: (7, 18 * t, 600 * t + t**2)[k], 1e-4)
                      for k in (0, 1, 2)]).T
        ],
    )  # fmt: skip
    (found,), (error,) = differences.second_differences(case)
    np.testing.assert_allclose(found, [0, 18, 600], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(error, 0, atol=1e-9)
    cubic = types.SimpleNamespace(
        floats=[], directions=[],
        run=lambda *a: [np.array([values_of(lambda t: t**3, 0.5)]).T],
    )  # fmt: skip
    (found,), (error,) = differences.second_differences(cubic, 0.5)
    np.testing.assert_allclose(found, [0], atol=1e-12)
    np.testing.assert_allclose(error, [0.25 - 0.0625])
