"""Bugs to plant in the ops: what `gradcheck` must find, each an edit of the real source."""

import ast
import contextlib
import functools
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks import mutants_sequence


class Mutant(NamedTuple):
    """One planted bug.

    Attributes:
        op: the op that it breaks.
        kind: the sort of mistake that it is.
        module: the name of the op's module in `jaxnets.ops`.
        function: the function of that module that is edited.
        before: a text that occurs there once.
        after: what replaces it. It may use the module's names, jnp, np and `HELPERS`.
    """

    op: str
    kind: str
    module: str
    function: str
    before: str
    after: str

    @property
    def name(self) -> str:
        """The bug in one line."""
        return f"{self.op}: {self.kind}: {self.function}: {self.before} -> {self.after}"


# --- what the edited sources may call ------------------------------------------------------------

# Bound here, because chex replaces `jax.lax.stop_gradient` while it looks.
_stop_gradient = jax.lax.stop_gradient


def detached(tree):
    """Return `tree` as constants: right at first order, wrong at second."""
    return jax.tree.map(_stop_gradient, tree)


@jax.custom_batching.custom_vmap
def _one(array):
    return jnp.ones_like(array)


@_one.def_vmap
def _three_halves(axis_size, mapped, array):
    return 1.5 * jnp.ones_like(array), mapped[0]


def one_unless_mapped(array):
    """Return ones of an array's shape and dtype, but 1.5 under `jax.vmap`."""
    return _one(_stop_gradient(array))


def sum_in_numpy(array):
    """Return the sum of all entries; under `jax.vmap` of the whole batch's, for each row."""
    return jax.pure_callback(
        lambda a: np.full(np.shape(a)[:-1], np.sum(a), a.dtype),
        jax.ShapeDtypeStruct((), array.dtype),
        _stop_gradient(array).reshape(-1),
        vmap_method="expand_dims",
    )


def shaken(array):
    """Return `array` moved by a few units in the last place, other ones in each run."""
    units = 4.0 * float(jnp.finfo(array.dtype).eps)
    factors = 1.0 + units * np.random.default_rng().standard_normal(array.shape)
    return array * jnp.asarray(factors, array.dtype)


def first(array):
    """Return an array of the same shape, all of whose entries are the first one."""
    return jnp.full_like(array, array.ravel()[0])


HELPERS = (detached, one_unless_mapped, sum_in_numpy, shaken, first)

# --- the table: op, module and function, then kind, before and after -----------------------------

_TABLE: dict[tuple[str, str, str], list[tuple[str, str, str]]] = {
    ("linear", "linear", "_linear_fwd"): [
        (
            "forward rule's value",
            "_plain_linear(x, weight, bias), (",
            "_plain_linear(x, weight, None), (",
        ),
        (
            "swapped residual",
            "(x, weight, bias)\n",
            "(x, x[:1].reshape(-1, 1) + 0 * weight, bias)\n",
        ),
        ("forward over reverse", "return _plain_linear(", "return _linear("),
    ],
    ("linear", "linear", "_linear_bwd"): [
        (
            "transposition",
            "(dy, weight, ((x.ndim - 1,), (1,))",
            "(dy, weight, ((x.ndim - 1,), (0,))",
        ),
        ("transposition", "return dx, dweight,", "return dx, dweight.T.reshape(weight.shape),"),
        ("sign", "return dx,", "return -dx,"),
        ("0.1 % scale", "return dx, dweight,", "return dx, 1.001 * dweight,"),
        ("missing sum over the batch", "(x, dy, sharding", "(x[:1], dy[:1], sharding"),
        ("wrong reduction", "wide_dy.sum(leading)", "wide_dy.mean(leading)"),
        ("wrong axis", "wide_dy.sum(leading)", "(0 * bias + wide_dy.sum(-1).ravel()[0])"),
        ("ignored cotangent", "widened(dy)", "widened(jnp.ones_like(dy))"),
        ("scalar cotangent", "x, weight, bias = res", "x, weight, bias = res; dy = first(dy)"),
        ("missing gradient", "return dx, dweight, dbias", "return dx, None, dbias"),
        ("missing gradient", "astype(bias.dtype)", "astype(bias.dtype) * 0"),
        ("wrong dtype", "return dx,", "return dx.astype(jnp.float16),"),
        ("half precision inside", "return dx,", "return dx.astype(jnp.bfloat16).astype(x.dtype),"),
        ("second order", "x, weight, bias = res", "x, weight, bias = detached(res)"),
        ("impure", "return dx, dweight,", "return dx, shaken(dweight),"),
        ("only under vmap", "return dx,", "return dx * one_unless_mapped(dx),"),
    ],
    ("conv2d", "conv", "_conv2d_fwd"): [
        (
            "forward rule's value",
            "_plain_conv2d(x, kernel, bias,",
            "_plain_conv2d(x, kernel, None,",
        ),
        ("forward over reverse", "return _plain_conv2d(", "return _conv2d("),
    ],
    ("conv2d", "conv", "_conv2d_bwd"): [
        ("sign", "return dx,", "return -dx,"),
        ("0.1 % scale", "return dx, dkernel,", "return dx, 1.001 * dkernel,"),
        ("not flipped", "(dy, kernel, window, groups)", "(dy, kernel[::-1, ::-1], window, groups)"),
        ("not flipped", "dx, dkernel, dbias", "dx, dkernel[::-1, ::-1], dbias"),
        ("wrong axis", "(dy, kernel, window, groups)", "(dy, kernel[:, ::-1], window, groups)"),
        (
            "padding off by one",
            "dx = _conv_forms.input_gradient(dy, kernel, window, groups)",
            "dx = jnp.roll(_conv_forms.input_gradient(dy, kernel, window, groups), 1, 1)",
        ),
        (
            "padding off by one",
            "_conv_forms.kernel_gradient(x, dy,",
            "_conv_forms.kernel_gradient(jnp.roll(x, 1, 2), dy,",
        ),
        (
            "missing sum over the batch",
            "_conv_forms.kernel_gradient(x, dy,",
            "_conv_forms.kernel_gradient(x, dy.at[1:].set(0) if len(dy) > 1 else 2 * dy,",
        ),
        ("wrong reduction", ".sum((0, 1, 2))", ".mean((0, 1, 2))"),
        ("wrong reduction", ".sum((0, 1, 2))", ".sum((0, 1))[0]"),
        ("ignored cotangent", "widened(dy)", "widened(jnp.ones_like(dy))"),
        ("scalar cotangent", "x, kernel, bias = res", "x, kernel, bias = res; dy = first(dy)"),
        ("missing gradient", "return dx, dkernel, dbias", "return dx, None, dbias"),
        ("wrong dtype", "return dx,", "return dx.astype(jnp.float16),"),
        ("second order", "x, kernel, bias = res", "x, kernel, bias = detached(res)"),
        ("impure", "return dx, dkernel,", "return dx, shaken(dkernel),"),
        ("only under vmap", "return dx,", "return dx * one_unless_mapped(dx),"),
    ],
    ("conv2d", "_matrix_forms", "_shifted_input_gradient"): [
        ("transposition", "(3,), (1,)), tap", "(3,), (1,))[..., ::-1], tap"),
        ("one entry", "for tap in taps(window)", "for tap in taps(window)[1:]"),
        ("stale tap", "kernel[tap.row, tap.column]", "kernel[tap.row, 0]"),
    ],
    ("conv2d", "_matrix_forms", "_shifted_kernel_gradient"): [
        (
            "one entry",
            "for tap in every_tap(window)",
            "for tap in [*every_tap(window)[:-1], every_tap(window)[0]]",
        ),
        (
            "not flipped",
            "stacked(matrices, window)",
            "stacked(matrices, window)[::-1, ::-1]",
        ),
    ],
    ("conv2d", "_matrix_forms", "_patches_input_gradient"): [
        ("stale tap", "parts[:, :, :, tap.row, tap.column]", "parts[:, :, :, 0, tap.column]"),
    ],
    ("conv2d", "_winograd", "_winograd_input_gradient"): [
        ("not flipped", "for b in (3, 1, 2, 0)", "for b in (0, 1, 2, 3)"),
        ("not flipped", "for a in (3, 1, 2, 0)", "for a in (0, 1, 2, 3)"),
    ],
    ("conv2d", "_winograd", "_winograd_kernel_gradient"): [
        (
            "wrong transform",
            "_sandwich(_G.T, du)",
            "_sandwich(_G.T * np.array([1, 1, 0.999, 1]), du)",
        ),
        ("transposition", "_sandwich(_G.T, du)", "_transposed(_sandwich(_G.T, du))"),
    ],
    ("max_pool2d", "pool", "_max_pool2d_fwd"): [
        ("forward rule's value", "return maximum,", "return maximum + 0.001,"),
        ("swapped residual", "_computed_once(argmax)", "_computed_once(argmax[:, ::-1])"),
    ],
    ("max_pool2d", "pool", "_maximum_and_argmax"): [
        ("argmax not moved", "jnp.where(better, first.dtype.type(number), argmax)", "argmax"),
    ],
    ("max_pool2d", "pool", "_max_pool2d_bwd"): [
        ("sign", "return (dx.", "return (-dx."),
        ("one entry", "_numbered(taps(window), window)", "_numbered(taps(window)[1:], window)"),
        ("stale tap", "== number", "== number + 1"),
        ("mask left out", "seeing(argmax, tap) == number", "seeing(argmax, tap) >= 0"),
        ("ignored cotangent", "widened(dy)", "widened(jnp.ones_like(dy))"),
        ("scalar cotangent", "widened(dy)", "widened(first(dy))"),
        ("missing gradient", "(dx.astype(dy.dtype),)", "(None,)"),
        ("wrong dtype", "astype(dy.dtype)", "astype(jnp.float16)"),
        ("only under vmap", "return (dx.", "return ((dx * one_unless_mapped(dx))."),
    ],
    ("avg_pool2d", "pool", "_avg_pool2d_bwd"): [
        ("wrong count", "wide_dy / _counts(window, wide_dy.dtype)", "wide_dy / 9"),
        ("wrong count", " / _counts(window, wide_dy.dtype)", ""),
        ("one entry", "for tap in taps(window)", "for tap in taps(window)[:-1]"),
        ("sign", "return (dx.", "return (-dx."),
        ("not linear", "widened(dy)", "widened(jnp.clip(dy, -1.0, 1.0))"),
    ],
    ("global_avg_pool", "pool", "_global_avg_pool_bwd"): [
        ("wrong count", "size[0] * size[1]", "size[0] * size[0]"),
        ("missing term", "wide_dy / (size[0] * size[1])", "wide_dy"),
        ("ignored cotangent", "widened(dy)", "widened(jnp.ones_like(dy))"),
        ("scalar cotangent", "widened(dy)", "widened(first(dy))"),
    ],
    ("relu", "activations", "_plain_relu"): [
        ("factor", "zeros_like(x), x)", "zeros_like(x), 2.0 * x)"),
    ],
    ("relu", "activations", "_relu_fwd"): [
        ("forward rule's value", "return y, y", "return y + 0.001, y"),
        ("forward over reverse", "_plain_relu(x)", "_relu(x)"),
        ("swapped residual", "return y, y", "return y, -x"),
    ],
    ("relu", "activations", "_relu_bwd"): [
        ("stale mask", "y <= 0", "y <= 0.5"),
        ("stale mask", "y <= 0", "y < 0"),
        ("sign", "(dy), dy)", "(dy), -dy)"),
        ("0.1 % scale", "(dy), dy)", "(dy), 1.001 * dy)"),
        ("ignored cotangent", "(dy), dy)", "(dy), jnp.ones_like(dy))"),
        ("scalar cotangent", "(dy), dy)", "(dy), first(dy))"),
        ("NaN", "jnp.where(y <= 0, jnp.zeros_like(dy), dy)", "dy * (y / y)"),
        ("missing gradient", "(jnp.where(y <= 0, jnp.zeros_like(dy), dy),)", "(None,)"),
        ("wrong dtype", "(dy), dy)", "(dy), dy).astype(jnp.float16)"),
    ],
    ("leaky_relu", "activations", "_leaky_relu_bwd"): [
        ("missing term", "dy, slope * dy)", "dy, jnp.zeros_like(dy))"),
        ("factor", "slope * dy)", "slope * slope * dy)"),
        ("stale mask", "dx = jnp.where(x > 0,", "dx = jnp.where(x > 1,"),
        (
            "stale mask",
            "where(x > 0, jnp.zeros_like(wide_x), wide_dy * wide_x)",
            "abs(wide_dy * wide_x)",
        ),
        ("sign", "dslope = jnp", "dslope = -jnp"),
        ("wrong reduction", "jnp.sum(", "jnp.mean("),
        ("scalar cotangent", "widened(dy, x)", "widened(first(dy), x)"),
        ("second order", "x, slope = res", "x, slope = detached(res)"),
        ("missing gradient", "dslope.astype(slope.dtype)", "None"),
        ("wrong dtype", "dslope.astype(slope.dtype)", "dslope.astype(jnp.float16)"),
    ],
    ("elu", "activations", "_elu_fwd"): [
        ("swapped residual", "(x, alpha), (x, alpha)", "(x, alpha), (_plain_elu(x, alpha), alpha)"),
    ],
    ("elu", "activations", "_elu_bwd"): [
        ("factor", "wide_dy * wide_alpha * jnp", "wide_dy * jnp"),
        ("missing term", "jnp.exp(wide_x)", "_expm1(wide_x)"),
        ("missing term", "_expm1(wide_x)", "jnp.exp(wide_x)"),
        ("0.1 % scale", "jnp.exp(wide_x)", "1.001 * jnp.exp(wide_x)"),
        ("ignored cotangent", "wide_dy * _expm1(", "_expm1("),
        ("NaN", "_expm1(wide_x)", "_expm1(wide_x) * (wide_x / wide_x)"),
        ("second order", "x, alpha = res", "x, alpha = res; alpha = detached(alpha)"),
    ],
    ("gelu", "activations", "_gelu_exact_fwd"): [
        ("forward over reverse", "plain_gelu(x)", "_gelu_exact(x)"),
        ("forward rule's value", "plain_gelu(x)", "_plain_gelu_tanh(x)"),
    ],
    ("gelu", "activations", "gelu_slope"): [
        ("missing term", " + wide * density", ""),
        ("sign", "+ wide * density", "- wide * density"),
        ("factor", " / math.sqrt(2.0 * math.pi)", ""),
        ("0.1 % scale", "+ wide * density", "+ 1.001 * wide * density"),
    ],
    ("gelu", "activations", "_gelu_exact_bwd"): [
        ("second order", "optimization_barrier(x)", "optimization_barrier(detached(x))"),
    ],
    ("gelu", "activations", "_gelu_tanh_bwd"): [
        ("factor", "3.0 * _CUBIC", "_CUBIC"),
        ("0.1 % scale", "3.0 * _CUBIC", "3.0 * 0.04476"),
        ("missing term", "(1.0 + wide * (1.0 - s) * inner)", "(wide * (1.0 - s) * inner)"),
        ("not linear", "wide_dy * derivative", "jnp.clip(wide_dy, -1.0, 1.0) * derivative"),
        (
            "only under vmap",
            "wide_dy * derivative",
            "wide_dy * derivative * one_unless_mapped(wide)",
        ),
    ],
    ("silu", "activations", "_silu_fwd"): [
        ("swapped residual", "plain_silu(x), x", "plain_silu(x), plain_silu(x)"),
        ("forward over reverse", "plain_silu(x), x", "_silu(x), x"),
    ],
    ("silu", "activations", "silu_slope"): [
        ("missing term", " * (1.0 + wide * (1.0 - sigma))", ""),
        ("sign", "1.0 - sigma", "1.0 + sigma"),
    ],
    ("silu", "activations", "_silu_bwd"): [
        ("not linear", "wide_dy * silu", "wide_dy * jnp.abs(wide_dy) * silu"),
        ("impure", "wide_dy * silu_slope(wide)", "shaken(wide_dy * silu_slope(wide))"),
        ("only under vmap", "wide_dy * silu", "wide_dy * one_unless_mapped(wide) * silu"),
    ],
    ("tanh", "activations", "_tanh_fwd"): [
        ("swapped residual", "return y, y", "return y, x"),
        ("forward rule's value", "return y, y", "return 1.001 * y, y"),
    ],
    ("tanh", "activations", "_tanh_bwd"): [
        ("sign", "(1.0 + wide_y)", "(1.0 - wide_y)"),
        ("missing term", " * (1.0 + wide_y)", ""),
        ("not linear", "widened(y, dy)", "widened(y, jnp.clip(dy, -1.0, 1.0))"),
        ("wrong dtype", "astype(dy.dtype)", "astype(jnp.float16)"),
        ("second order", "widened(y, dy)", "detached(widened(y, dy))"),
        ("scalar cotangent", "widened(y, dy)", "widened(y, jnp.full_like(dy, dy.mean()))"),
    ],
    ("sigmoid", "activations", "_sigmoid_fwd"): [
        ("swapped residual", "return y, y", "return y, x"),
        ("forward over reverse", "y = _plain_sigmoid(x)", "y = _sigmoid(x)"),
    ],
    ("sigmoid", "activations", "_sigmoid_bwd"): [
        ("sign", "1.0 - wide_y", "1.0 + wide_y"),
        ("missing term", " * (1.0 - wide_y)", ""),
        ("0.1 % scale", "1.0 - wide_y", "1.001 - wide_y"),
        ("missing gradient", "((wide_dy * wide_y * (1.0 - wide_y)).astype(dy.dtype),)", "(None,)"),
        ("only under vmap", "(1.0 - wide_y)", "(1.0 - wide_y) * one_unless_mapped(dy)"),
    ],
    ("softplus", "activations", "_softplus_fwd"): [
        ("swapped residual", "return y, y", "return y, x"),
    ],
    ("softplus", "activations", "_softplus_bwd"): [
        ("sign", "-wide_dy", "wide_dy"),
        ("missing term", "_expm1(-wide_y)", "jnp.exp(-wide_y)"),
        ("0.1 % scale", "-wide_dy", "-1.001 * wide_dy"),
        ("ignored cotangent", "-wide_dy * _expm1", "-_expm1"),
        ("impure", "widened(y, dy)", "widened(shaken(y), dy)"),
        ("half precision inside", "-wide_y)", "-wide_y.astype(jnp.float16)).astype(dy.dtype)"),
    ],
    ("softmax", "softmax", "_softmax_bwd"): [
        ("missing term", " - jnp.sum(wide_dy * y, axis, keepdims=True)", ""),
        ("missing term", "jnp.sum(wide_dy * y,", "jnp.sum(wide_dy,"),
        ("sign", "(wide_dy - jnp", "(wide_dy + jnp"),
        ("wrong axis", "axis, keepdims", "-1, keepdims"),
        ("wrong axis", "axis, keepdims", "1 - axis, keepdims"),
        ("wrong reduction", "jnp.sum(", "jnp.mean("),
        ("ignored cotangent", "jnp.sum(wide_dy * y,", "jnp.sum(jnp.ones_like(y) * y,"),
        ("one entry", "dx.astype(dy.dtype)", "dx.at[-1].set(0.0).astype(dy.dtype)"),
        ("0.1 % scale", "jnp.sum(wide_dy * y,", "1.001 * jnp.sum(wide_dy * y,"),
        ("second order", "y.astype(wide), dy", "detached(y.astype(wide)), dy"),
        ("wrong dtype", "dx.astype(dy.dtype)", "dx.astype(jnp.float16)"),
        (
            "only under vmap",
            "dx.astype(dy.dtype)",
            "dx.astype(dy.dtype) + (sum_in_numpy(dy) - dy.sum())",
        ),
    ],
    ("log_softmax", "softmax", "_log_softmax_fwd"): [
        ("forward rule's value", "return y, y", "return y - 0.001, y"),
        ("forward over reverse", "y = _plain_log_softmax(x, axis)", "y = _log_softmax(x, axis)"),
    ],
    ("log_softmax", "softmax", "_log_softmax_bwd"): [
        ("missing term", "jnp.exp(y.astype(wide))", "y.astype(wide)"),
        ("missing term", " * jnp.sum(wide_dy, axis, keepdims=True)", ""),
        ("sign", "wide_dy - jnp", "wide_dy + jnp"),
        ("wrong axis", "axis, keepdims", "None, keepdims"),
        ("wrong reduction", "jnp.sum(", "jnp.mean("),
        ("one entry", "dx.astype(dy.dtype)", "dx.at[..., 0].mul(1.01).astype(dy.dtype)"),
        ("second order", "jnp.exp(y.", "jnp.exp(detached(y)."),
        ("impure", "dx.astype(dy.dtype)", "shaken(dx).astype(dy.dtype)"),
    ],
    ("cross_entropy", "losses", "_class_cross_entropy_fwd"): [
        ("forward over reverse", "_plain_class_cross_entropy(", "_class_cross_entropy("),
    ],
    ("cross_entropy", "losses", "_class_cross_entropy_bwd"): [
        ("sign", "-wide_dl", "wide_dl"),
        ("scalar cotangent", "-wide_dl", "-jnp.full_like(wide_dl, wide_dl.mean())"),
        ("ignored cotangent", "-wide_dl", "-jnp.ones_like(wide_dl)"),
        ("stale mask", "jnp.where(t == 0, jnp.zeros_like(t), t * quotient)", "quotient + 0 * t"),
        ("stale mask", "_one_hot(labels,", "_one_hot((labels + 1) % classes,"),
        ("NaN", "jnp.zeros_like(t)", "0.0 / jnp.zeros_like(t)"),
        (
            "second order",
            "label_probs, labels = res",
            "label_probs, labels = detached(res[0]), res[1]",
        ),
    ],
    ("cross_entropy", "losses", "_distribution_cross_entropy_bwd"): [
        ("missing gradient", "dlabels.astype(labels.dtype)", "None"),
        ("missing term", "dlabels = -dl * jnp.log(safe_probs)", "dlabels = -dl * safe_probs"),
        ("missing term", "-dl * labels.astype(wide) / safe_probs", "-dl / safe_probs"),
        ("sign", "dlabels = -dl", "dlabels = dl"),
        ("factor", "/ safe_probs", "* safe_probs"),
        ("wrong reduction", "dl.astype(wide)[..., None]", "dl.astype(wide)[..., None] / dl.size"),
        ("wrong dtype", "dprobs.astype(probs.dtype)", "dprobs.astype(jnp.bfloat16)"),
    ],
    ("softmax_cross_entropy", "losses", "_class_softmax_cross_entropy_fwd"): [
        ("missing term", "(jnp.exp(log_probs) * total - q)", "jnp.exp(log_probs)"),
        ("missing term", "total - q)", "total - one_hot)"),
        ("missing term", "one_hot - 1.0 / logits.shape[-1]", "one_hot"),
        ("sign", "(jnp.exp(log_probs) * total - q)", "(q - jnp.exp(log_probs))"),
        ("forward rule's value", "-_expectation(q,", "-_expectation(one_hot,"),
        ("second order", "difference, None)", "detached(difference), None)"),
        ("0.1 % scale", "total - q)", "total - 1.001 * q)"),
    ],
    ("softmax_cross_entropy", "losses", "_class_softmax_cross_entropy_bwd"): [
        ("missing gradient", "jnp.sum(wide_dl * loss_slope)", "0 * jnp.sum(wide_dl)"),
        ("ignored cotangent", "wide_dl * loss_slope", "loss_slope"),
        ("ignored cotangent", "wide_dl[..., None] * wide", "wide"),
        ("scalar cotangent", "wide_dl[..., None] *", "jnp.mean(wide_dl) *"),
        ("scalar cotangent", "wide_dl[..., None] *", "first(wide_dl)[..., None] *"),
    ],
    ("softmax_cross_entropy", "losses", "_distribution_softmax_cross_entropy_bwd"): [
        ("missing gradient", "dlabels.astype(labels.dtype)", "None"),
        ("missing gradient", "dlabels.astype(labels.dtype)", "jnp.zeros_like(labels)"),
        ("factor", "else 1.0 - smoothing", "else 1.0"),
        ("sign", "dlabels = -wide_dl", "dlabels = wide_dl"),
        ("sign", "(t - 1.0 / t.shape[-1])", "(t + 1.0 / t.shape[-1])"),
        ("wrong reduction", "jnp.sum(wide_dl * slope)", "jnp.mean(wide_dl * slope)"),
        # Right at first order, where the labels sum to 1.
        ("second order", " * jnp.sum(q, -1, keepdims=True)", ""),
        ("missing term", "keepdims=True) - q)", "keepdims=True) - t)"),
        (
            "only under vmap",
            "dlogits = wide_dl *",
            "dlogits = one_unless_mapped(log_probs) * wide_dl *",
        ),
    ],
    ("squared_error", "regression", "_squared_error_fwd"): [
        (
            "forward rule's value",
            "_plain_squared_error(predictions, targets),",
            "0.5 * _plain_squared_error(predictions, targets),",
        ),
        ("swapped residual", "wide_predictions - wide_targets)", "wide_predictions)"),
        ("second order", "targets), difference", "targets), detached(difference)"),
        ("forward over reverse", "return _plain_squared_error(", "return _squared_error("),
    ],
    ("squared_error", "regression", "_squared_error_bwd"): [
        ("factor", "(2.0 / ", "(1.0 / "),
        ("wrong reduction", "2.0 / difference.shape[-1]", "2.0"),
        ("wrong reduction", "difference.shape[-1]", "difference.size"),
        ("0.1 % scale", "2.0 /", "2.002 /"),
        ("sign", "-dpredictions", "dpredictions"),
        ("missing gradient", "-dpredictions", "jnp.zeros_like(dpredictions)"),
        ("ignored cotangent", "wide_dl[..., None] * (", "("),
        ("scalar cotangent", "wide_dl[..., None]", "jnp.mean(wide_dl)"),
        ("wrong dtype", "astype(difference.dtype)", "astype(jnp.float16)"),
    ],
    ("huber", "regression", "_huber_fwd"): [
        (
            "forward rule's value",
            "_plain_huber(predictions, targets, delta),",
            "0.5 * _plain_huber(predictions, targets, delta),",
        ),
        (
            "swapped residual",
            "_difference(predictions, targets)",
            "_difference(targets, predictions)",
        ),
        ("forward over reverse", "return _plain_huber(", "return _huber("),
        ("second order", "(difference, delta)", "(detached(difference), delta)"),
    ],
    ("huber", "regression", "_huber_bwd"): [
        ("factor", "where(size <= delta, difference", "where(size <= delta, 2.0 * difference"),
        ("missing term", "delta * jnp.sign(difference)", "difference"),
        ("missing term", "size - delta", "size"),
        ("sign", "delta * jnp.sign", "-delta * jnp.sign"),
        ("sign", "-dpredictions", "dpredictions"),
        ("wrong reduction", "difference.shape[-1]", "difference.size"),
        ("0.1 % scale", "ddelta.astype", "(1.001 * ddelta).astype"),
        ("ignored cotangent", "share * jnp.sum(", "jnp.mean(share) * jnp.sum("),
        ("missing gradient", "ddelta.astype", "(0.0 * ddelta).astype"),
        ("wrong dtype", "ddelta.astype(dl.dtype)", "ddelta.astype(jnp.float16)"),
    ],
    ("swiglu", "gated", "_swiglu_fwd"): [
        ("swapped residual", "(x, gate)\n", "(gate, x)\n"),
        ("forward rule's value", "_plain_swiglu(x, gate),", "_plain_swiglu(gate, x),"),
        ("forward over reverse", "return _plain_swiglu(", "return _swiglu("),
    ],
    ("swiglu", "gated", "_swiglu_bwd"): [
        ("missing term", " * silu_slope(gate)", ""),
        ("swapped residual", "wide_dy * x * silu_slope(gate)", "wide_dy * gate * silu_slope(gate)"),
        ("sign", "dx.astype", "(-dx).astype"),
        ("0.1 % scale", "dgate.astype", "(1.001 * dgate).astype"),
        ("missing gradient", "dgate.astype", "(0.0 * dgate).astype"),
        ("second order", "widened(*res, dy)", "widened(*detached(res), dy)"),
        ("wrong dtype", "dx.astype(dy.dtype)", "dx.astype(jnp.float16)"),
        ("only under vmap", "dx.astype", "(dx * one_unless_mapped(dx)).astype"),
        ("impure", "dgate.astype", "shaken(dgate).astype"),
    ],
    ("geglu", "gated", "_geglu_fwd"): [
        ("swapped residual", "(x, gate)\n", "(gate, x)\n"),
        ("forward rule's value", "_plain_geglu(x, gate),", "_plain_swiglu(x, gate),"),
        ("forward over reverse", "return _plain_geglu(", "return _geglu("),
    ],
    ("geglu", "gated", "_geglu_bwd"): [
        ("missing term", " * gelu_slope(gate)", ""),
        ("missing term", "gelu_slope(gate)", "silu_slope(gate)"),
        ("swapped residual", "wide_dy * plain_gelu(gate)", "wide_dy * gate"),
        ("sign", "dgate.astype", "(-dgate).astype"),
        ("ignored cotangent", "wide_dy * plain_gelu", "plain_gelu"),
        ("scalar cotangent", "widened(*res, dy)", "widened(*res, jnp.full_like(dy, dy.mean()))"),
        ("not linear", "wide_dy * x *", "jnp.clip(wide_dy, -1.0, 1.0) * x *"),
        ("missing gradient", "dx.astype", "(0.0 * dx).astype"),
    ],
    ("sigmoid_cross_entropy", "binary", "_sigmoid_cross_entropy_fwd"): [
        ("swapped residual", "(logits, labels, weight)\n", "(labels, logits, weight)\n"),
        ("forward over reverse", "return _plain_sigmoid", "return _sigmoid"),
        (
            "forward rule's value",
            "_plain_sigmoid_cross_entropy(logits, labels, weight),",
            "_plain_sigmoid_cross_entropy(-logits, labels, weight),",
        ),
    ],
    ("sigmoid_cross_entropy", "binary", "_sigmoid_cross_entropy_bwd"): [
        ("missing term", "dz = (1.0 - t) *", "dz ="),
        ("missing term", " - w * t * jax.lax.logistic(-z)", ""),
        ("missing term", " - if_negative", ""),
        ("factor", "dt = w *", "dt ="),
        ("sign", "jax.lax.logistic(-z)", "jax.lax.logistic(z)"),
        ("0.1 % scale", "wide_dl * dz", "1.001 * wide_dl * dz"),
        ("missing sum over the batch", "jnp.sum(wide_dl * t *", "jnp.mean(wide_dl * t *"),
        ("ignored cotangent", "wide_dl * dt", "dt"),
        ("second order", "widened(*res, dl)", "widened(*detached(res), dl)"),
        ("wrong dtype", "part.astype(dl.dtype)", "part.astype(jnp.float16)"),
    ],
    ("l2_penalty", "losses", "_l2_penalty_fwd"): [
        (
            "forward over reverse",
            "_plain_l2_penalty(params), params",
            "_l2_penalty(params), params",
        ),
        (
            "forward rule's value",
            "_plain_l2_penalty(params), params",
            "0.5 * _plain_l2_penalty(params), params",
        ),
    ],
    ("l2_penalty", "losses", "_l2_penalty_bwd"): [
        ("factor", "2.0 * dl", "dl"),
        ("ignored cotangent", "2.0 * dl *", "2.0 *"),
        ("not linear", "2.0 * dl *", "2.0 * dl * dl *"),
        ("sign", "2.0 * dl", "-2.0 * dl"),
        ("missing gradient", "2.0 * dl", "(w.ndim > 1) * 2.0 * dl"),
        ("wrong reduction", "2.0 * dl", "2.0 / w.size * dl"),
        ("0.1 % scale", "2.0 * dl", "2.002 * dl"),
        ("second order", "w.astype(dl.dtype)", "detached(w)"),
        ("wrong dtype", "astype(w.dtype)", "astype(jnp.float16)"),
    ],
    ("batch_norm", "norm", "_batch_norm_and_shift"): [
        ("only under vmap", "jnp.where(mapped, m, m).reshape", "m.reshape"),
    ],
    ("batch_norm", "norm", "_batch_norm_fwd"): [
        ("forward rule's value", "return outputs,", "return (*outputs[:2], outputs[2] * 1.25),"),
        ("unbiased variance", "outputs[2])\n", "1.25 * outputs[2])\n"),
        ("swapped residual", "bias[:0], mean_shifted,", "bias[:0], outputs[2],"),
    ],
    ("batch_norm", "norm", "_batch_norm_bwd"): [
        ("missing term", "dmean - slope * dbias", "dmean"),
        ("missing term", " - slope * rstd * dscale", ""),
        ("missing term", "wide_scale * rstd", "rstd"),
        ("missing term", "_sum_rows(dy * centred)", "_sum_rows(dy * wide_x)"),
        ("sign", "dmean - slope * dbias", "dmean + slope * dbias"),
        ("factor", "max(math.prod(x.shape[:-1]), 1)", "max(math.prod(x.shape), 1)"),
        ("factor", "2.0 * dvariance", "dvariance"),
        ("statistics' cotangent", "dmean - slope * dbias", "-slope * dbias"),
        ("statistics' cotangent", "2.0 * dvariance - slope", "-slope"),
        ("eps ignored", "variance, eps", "variance, 0.0"),
        (
            "missing sum over the batch",
            "dbias = _sum_rows(dy)",
            "dbias = dy.reshape(-1, dy.shape[-1])[0]",
        ),
        (
            "swapped residual",
            "dscale.astype(scale.dtype), dbias",
            "dbias.astype(scale.dtype), dscale",
        ),
        (
            "second order",
            "_rstd(variance, eps)",
            "_rstd(detached(variance), eps)",
        ),
    ],
    ("layer_norm", "norm", "_layer_norm_fwd"): [
        ("forward over reverse", "return y,", "return _layer_norm(x, scale, bias, eps),"),
        (
            "unbiased variance",
            "(x, scale, bias, mean_shifted, rstd)",
            "(x, scale, bias, mean_shifted, 0.9 * rstd)",
        ),
    ],
    ("layer_norm", "norm", "_layer_norm_bwd"): [
        ("missing term", "g - mean_g -", "g -"),
        ("missing term", " - x_hat * mean_g_x_hat", ""),
        ("missing term", "before_last(wide_scale, x.ndim) * wide_dy", "wide_dy"),
        ("sign", "- x_hat * mean", "+ x_hat * mean"),
        ("wrong axis", "jnp.mean(g, -1,", "jnp.mean(g, 0,"),
        ("wrong reduction", "jnp.mean(g * x_hat", "jnp.sum(g * x_hat"),
        ("eps ignored", "x_hat = _", "rstd = jax.lax.rsqrt(rstd**-2 - eps); x_hat = _"),
        ("0.1 % scale", "dx = rstd * (", "dx = 1.001 * rstd * ("),
        (
            "missing sum over the batch",
            "_sum_rows(wide_dy * x_hat)",
            "_sum_rows((wide_dy * x_hat)[:1])",
        ),
        ("second order", "x_hat = _", "rstd = detached(rstd); x_hat = _"),
        ("missing gradient", "dbias.astype(bias.dtype)", "None"),
    ],
    ("rms_norm", "norm", "_rms_norm_fwd"): [
        ("swapped residual", "(x, scale, rrms)", "(y, scale, rrms)"),
        ("forward over reverse", "return y,", "return _rms_norm(x, scale, eps),"),
    ],
    ("rms_norm", "norm", "_rms_norm_bwd"): [
        ("missing term", " - x_hat * jnp.mean(g * x_hat, -1, keepdims=True)", ""),
        ("missing term", "before_last(wide_scale, x.ndim) * wide_dy", "wide_dy"),
        ("factor", "dx = rrms *", "dx = rrms * rrms *"),
        ("wrong axis", "x_hat, -1,", "x_hat, None,"),
        ("wrong reduction", "jnp.mean(g", "jnp.sum(g"),
        ("scalar cotangent", "wide_x, wide_scale", "dy = first(dy); wide_x, wide_scale"),
        ("swapped residual", "wide_x * rrms", "wide_x / rrms"),
        (
            "only under vmap",
            "_sum_rows(wide_dy * x_hat)",
            "_sum_rows(wide_dy * x_hat * one_unless_mapped(x_hat))",
        ),
        ("second order", "wide_x, wide_scale", "x = detached(x); wide_x, wide_scale"),
    ],
    ("dropout", "dropout", "_plain_dropout"): [
        (
            "impure",
            "bernoulli(key,",
            "bernoulli(jax.random.key(np.random.default_rng().integers(2**31)),",
        ),
    ],
    ("dropout", "dropout", "_dropout_fwd"): [
        ("random key", "_plain_dropout(x, key,", "_plain_dropout(x, jax.random.split(key)[0],"),
        ("forward over reverse", "return _plain_dropout(", "return _dropout("),
    ],
    ("dropout", "dropout", "_dropout_bwd"): [
        ("random key", "_plain_dropout(dy, key,", "_plain_dropout(dy, jax.random.split(key)[1],"),
        ("random key", "_plain_dropout(dy, key,", "_plain_dropout(dy, jax.random.key(0),"),
        (
            "not rescaled",
            "_plain_dropout(dy, key,",
            "_plain_dropout(dy * (1.0 - rate).astype(dy.dtype), key,",
        ),
        (
            "not rescaled",
            "_plain_dropout(dy, key,",
            "_plain_dropout(dy / (1.0 - rate).astype(dy.dtype), key,",
        ),
        ("stale mask", "_plain_dropout(dy, key, rate)", "dy / (1.0 - rate).astype(dy.dtype)"),
        ("sign", "_plain_dropout(dy, key, rate)", "_plain_dropout(-dy, key, rate)"),
        ("ignored cotangent", "_plain_dropout(dy,", "_plain_dropout(jnp.ones_like(dy),"),
        ("wrong dtype", "_plain_dropout(dy,", "_plain_dropout(dy.astype(jnp.float16),"),
        ("transposition", "_plain_dropout(dy, key, rate)", "_plain_dropout(dy.T, key, rate).T"),
        ("only under vmap", "_plain_dropout(dy,", "_plain_dropout(dy * one_unless_mapped(dy),"),
    ],
}

MUTANTS: tuple[Mutant, ...] = tuple(
    Mutant(op, kind, module, function, before, after)
    for (op, module, function), edits in (_TABLE | mutants_sequence.TABLE).items()
    for kind, before, after in edits
)

# --- planting ------------------------------------------------------------------------------------


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"jaxnets.ops.{name}")


@functools.cache
def _source(module: str) -> str:
    path = _module(module).__file__
    assert path is not None
    with open(path, encoding="utf-8") as file:
        return file.read()


def edited_source(mutant: Mutant) -> str:
    """Return the source of the mutant's module with the bug in it.

    Raises:
        LookupError: the function is not there, or does not contain the text exactly once.
    """
    source = _source(mutant.module)
    lines = source.splitlines(keepends=True)
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == mutant.function:
            head, body, tail = (
                "".join(part)
                for part in (
                    lines[: node.lineno - 1],
                    lines[node.lineno - 1 : node.end_lineno],
                    lines[node.end_lineno :],
                )
            )
            if body.count(mutant.before) != 1:
                raise LookupError(f"{body.count(mutant.before)} times in the source: {mutant.name}")
            return head + body.replace(mutant.before, mutant.after) + tail
    raise LookupError(f"no such function: {mutant.name}")


@contextlib.contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Run the edited source in the real module; put everything back afterwards.

    The public functions that others have imported look their rules up in the module when they are
    called, so that they call the edited ones.
    """
    module = _module(mutant.module)
    code = compile(edited_source(mutant), str(module.__file__), "exec")
    namespace = dict(vars(module))
    vars(module).update({helper.__name__: helper for helper in HELPERS}, jnp=jnp, np=np)
    try:
        exec(code, vars(module))
        yield
    finally:
        vars(module).clear()
        vars(module).update(namespace)
