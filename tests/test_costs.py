"""The costs of a gradient, held against what can be counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import autodiff, costs, ops
from jaxnets._costs import residual_bytes


def normal(rng, *shape):
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


@jax.custom_vjp
def keeps_much(x):
    return jnp.sin(x)


def keeps_much_fwd(x):
    return jnp.sin(x), (jnp.cos(x), x, x.astype(jnp.bfloat16), jnp.cos(x))


def keeps_much_bwd(res, dy):
    return (res[0] * dy,)


keeps_much.defvjp(keeps_much_fwd, keeps_much_bwd)


def test_residuals_are_counted_once_each(rng):
    x = normal(rng, 6, 7)
    # Two arrays cos(x), x itself and one of half the width; JAX does not know that two are equal.
    assert residual_bytes(keeps_much, x) == x.nbytes * (2 + 1 + 0.5)
    # sin keeps cos(x) alone.
    assert residual_bytes(autodiff(keeps_much), x) == x.nbytes


def test_an_array_kept_twice_is_counted_once(rng):
    x = normal(rng, 5)
    # Both products keep y = 2x twice, once a factor.
    assert residual_bytes(lambda x: (lambda y: (y * y, y * y))(2.0 * x), x) == x.nbytes


def test_a_product_costs_its_flops(rng):
    x, weight = normal(rng, 64, 32), normal(rng, 32, 16)
    measured = costs(ops.linear, x, weight)
    # Forward and the two products of the backward, two operations a term.
    product = 2 * 64 * 32 * 16
    for cost in (measured.explicit, measured.autodiff):
        assert cost.flops == pytest.approx(3 * product, rel=0.02)
        assert cost.residual_bytes == x.nbytes + weight.nbytes
        results = 64 * 16 * 4 + x.nbytes + weight.nbytes
        assert cost.peak_bytes >= x.nbytes + weight.nbytes + 64 * 16 * 4 + results
        assert cost.bytes_accessed >= x.nbytes + weight.nbytes + results
        assert cost.seconds > 0
    assert measured.input_bytes == x.nbytes
    assert measured.time_ratio == measured.explicit.seconds / measured.autodiff.seconds


def test_explicit_and_autodiff_are_told_apart(rng):
    x, scale, bias = normal(rng, 64, 32), normal(rng, 32), normal(rng, 32)
    measured = costs(ops.layer_norm, x, scale, bias)
    rows = 2 * 64 * 4  # Mean and rstd.
    assert measured.explicit.residual_bytes == x.nbytes + rows + scale.nbytes + bias.nbytes
    assert measured.autodiff.residual_bytes > 2.9 * x.nbytes


@pytest.mark.slow
def test_integers_and_keys_are_held_constant(rng):
    logits, labels = normal(rng, 8, 5), jnp.arange(8) % 5
    measured = costs(ops.softmax_cross_entropy, logits, labels=labels)
    assert measured.explicit.residual_bytes == logits.nbytes
    key = jax.random.key(0)
    assert costs(ops.dropout, logits, key, 0.5).explicit.residual_bytes < 32


def test_reads_as_a_table(rng):
    lines = str(costs(ops.relu, normal(rng, 8, 8))).splitlines()
    assert lines[0].split() == ["gradient", "of", "relu", "explicit", "autodiff", "ratio"]
    assert [line.split("(")[0].strip() for line in lines[1:2]] == [
        "saved between forward and backward"
    ]
    assert lines[1].split()[-3:] == ["256", "320", "0.80"]
    assert len(lines) == 6


def test_needs_a_floating_array():
    with pytest.raises(ValueError, match="floating"):
        costs(lambda n: n * 1.0, jnp.arange(3))


def test_a_complex_array_counts_as_its_two_parts():
    measured = costs(lambda x: x * x, np.ones(3, np.complex64))
    assert measured.input_bytes == 3 * 4
    assert measured.explicit.residual_bytes >= 2 * 3 * 4


def test_a_body_that_jax_cannot_differentiate_has_costs_of_its_rule_alone():
    def body(x):
        return jax.lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, 2.0 * s[1]), (0, x))[1]

    quadruple = jax.custom_vjp(body)
    quadruple.defvjp(lambda x: (body(x), None), lambda _, dy: (4.0 * dy,))
    measured = costs(quadruple, jnp.ones(8))
    assert measured.explicit.residual_bytes == 0
    assert measured.explicit.seconds > 0
    assert np.isnan(measured.autodiff.residual_bytes)
    assert np.isnan(measured.time_ratio)
    assert all(line.endswith("-") for line in str(measured).splitlines()[1:])
