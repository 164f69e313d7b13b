"""Networks that are tried on shapes: which numbers may be traced, and what is refused."""

import jax
import jax.numpy as jnp
import pytest

from jaxnets.layers import Layer
from train.custom_network import run_kind
from train.custom_network.source import UserError
from train.custom_network.trial import Trial, _shapes
from train.flags.config import replaced

CLASSES, SHAPE = 3, (2, 2)


def own(classes, *, width: int = 4, rate: float = 0.5, slope: float = 0.25,
        other: float | None = None):  # fmt: skip
    """A network of one's own."""


KIND = run_kind(own).kind
NUMBERS = frozenset({"rate", "slope", "other"})


def run(**flags):
    return replaced(KIND(), flags)


def network(values, *, name="weight", dtype=jnp.float32, state=(), shape=(CLASSES,), y=None,
            tested=None, after=None):  # fmt: skip
    """A linear layer; what it returns may be changed."""

    def init(key, input_shape):
        assert input_shape == SHAPE
        return {name: jnp.zeros((4, CLASSES), dtype)}, state, shape

    def apply(params, found, x, *, key=None, training=False):
        logits = x.reshape(len(x), -1) @ params[name] * values["rate"]
        changed = y if training else tested
        logits = logits if changed is None else jnp.zeros(changed, x.dtype)
        return logits, found if after is None else after

    return Layer("linear", init, apply)


def tried(build, *runs, numbers=NUMBERS):
    return Trial("net.py:net", build, SHAPE, CLASSES).traceable(runs or (run(),), numbers)


def test_numbers_are_traced_where_the_function_allows_it():
    seen = []

    def build(values):
        seen.append(isinstance(values["rate"], jax.core.Tracer))
        return network(values)

    assert tried(build) == NUMBERS
    assert all(seen)
    assert tried(build, numbers=frozenset()) == frozenset()
    assert not seen[-1]


def branching(*names):
    """A network that asks whether numbers are above 0, which needs their values."""

    def build(values):
        for name in names:
            assert values[name] is None or values[name] >= 0
        return network(values)

    return build


def test_a_number_whose_value_is_asked_for_is_not_traced():
    assert tried(branching("rate")) == NUMBERS - {"rate"}
    assert tried(branching("rate", "slope")) == {"other"}
    assert tried(branching(*NUMBERS)) == {"other"}  # It is None, so nothing is asked.
    assert tried(branching(*NUMBERS), run(other=0.5)) == frozenset()


def test_what_one_run_asks_for_is_traced_in_none():
    """Of the runs of all widths, whichever comes first."""

    def build(values):
        return branching("rate" if values["width"] == 5 else "slope")(values)

    runs = [run(width=4), run(width=5)]
    for several in (runs, runs[::-1]):
        assert tried(build, *several) == {"other"}
    assert tried(build, runs[0]) == {"rate", "other"}


def test_numbers_that_cannot_be_traced_together_are_not_traced():
    def build(values):
        traced = [isinstance(values[name], jax.core.Tracer) for name in ("rate", "slope")]
        assert not all(traced)
        return network(values)

    assert tried(build) == frozenset()


def test_a_network_that_fails_whatever_is_traced_is_refused():
    def build(values):
        raise KeyError("width")

    with pytest.raises(UserError, match=r"^net\.py:net: KeyError: 'width' \(.*test_trial\.py, l"):
        tried(build)

    def once(values):  # It fails where a number is not traced, and another cannot be.
        branching("slope")(values)
        assert isinstance(values["rate"], jax.core.Tracer)
        return network(values)

    with pytest.raises(UserError, match=r"^net\.py:net: AssertionError"):
        tried(once)


def test_every_shape_is_tried_again_where_fewer_numbers_are_traced():
    """A run that worked with all of them traced may fail with one that is not."""

    def build(values):
        if values["width"] == 5:
            return branching("rate")(values)
        assert isinstance(values["rate"], jax.core.Tracer) or values["rate"] < 1
        return network(values)

    assert tried(build, run(width=4), run(width=5)) == NUMBERS - {"rate"}
    with pytest.raises(UserError, match="AssertionError"):
        tried(build, run(width=4), run(width=5), run(width=4, rate=2.0))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"dtype": jnp.int32}, r"params\['weight'\] of init is int32, which has no gradient; init"),
        (
            {"shape": (4,)},
            r"output_shape of init is \[4\], and must be \[3\]: a number for each of",
        ),
        (
            {"y": (2, 4)},
            r"y of apply is \[2, 4\], and must be \[2, 3\]: a number for each of the 3",
        ),
        ({"tested": (2, 3, 1)}, r"y of apply is \[2, 3, 1\], and must be \[2, 3\]"),
        (
            {"state": {"n": jnp.zeros(2)}, "after": {"n": jnp.zeros(3)}},
            r"apply must return a state like that of init: \['n'\] float32 \[3\] after \['n'\] flo",
        ),
        (
            {"state": {"n": jnp.zeros(2)}, "after": {"n": jnp.zeros(2, jnp.int32)}},
            r"a state like that of init: \['n'\] int32 \[2\] after \['n'\] float32 \[2\]$",
        ),
        ({"state": (jnp.zeros(2),), "after": ()}, "a state like that of init$"),
    ],
)
def test_what_a_network_must_return(changes, line):
    with pytest.raises(UserError, match=rf"^net\.py:net: .*{line}"):
        tried(lambda values: network(values, **changes))


def test_a_state_of_the_same_shapes_may_have_other_values():
    tried(lambda values: network(values, state={"n": jnp.zeros(2)}, after={"n": jnp.ones(2)}))


def test_l2_needs_parameters_that_are_called_weights():
    tried(network, run(l2=0.5))
    kernel = lambda values: network(values, name="kernel")  # noqa: E731
    tried(kernel, run(l2=0.0))
    line = r'^net\.py:net: --l2 0\.5 counts the parameters called "weight", and there are none'
    with pytest.raises(UserError, match=line):
        tried(kernel, run(l2=0.5))
    with pytest.raises(UserError, match=line):  # Whichever of the runs it is.
        tried(kernel, run(l2=0.0), run(l2=0.5))


def test_it_is_tried_in_the_precision_of_the_run():
    dtypes = []

    def build(values):
        layer = network(values)

        def apply(params, state, x, **options):
            dtypes.append((params["weight"].dtype, x.dtype))
            y, state = layer.apply(params, state, x)
            return y.astype(x.dtype), state

        return layer._replace(apply=apply)

    for precision in ("float32", "bfloat16"):
        dtypes.clear()
        with jax.numpy_dtype_promotion("standard"):
            tried(build, run(precision=precision))
        assert set(dtypes) == {(jnp.dtype(precision),) * 2}


def test_runs_that_differ_in_traced_numbers_alone_are_tried_once():
    runs = [run(rate=0.1), run(rate=0.2), run(width=5), run(other=0.5), run(l2=0.5), run(l2=0.25),
            run(precision="bfloat16"), run(learning_rate=0.5), run(slope=0.5)]  # fmt: skip
    assert _shapes(runs, NUMBERS) == [runs[place] for place in (0, 2, 3, 4, 6)]
    assert _shapes(runs, NUMBERS - {"rate"}) == [runs[place] for place in (0, 1, 2, 3, 4, 6, 7)]
