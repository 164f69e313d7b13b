"""Windows that slide over images: what convolution and pooling share.

Symbols, along one spatial axis: n input positions, m output positions, k window positions, stride
s, dilation d, padding p before the input and q after it. At window position a, output i sees the
input position

    u = s i + d a - p,    a real one where 0 <= u < n, and m = (n + p + q - d (k - 1) - 1) // s + 1.

For one a, the outputs that see a real input are a range of i, and what they see is a strided range
of u. A `Tap` is one window position, with these ranges along both axes: a sum over windows is a sum
over taps, in which no padding is ever written down or multiplied.
"""

import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax

Pair = tuple[int, int]
Padding = str | int | Sequence[Sequence[int]]


class Window(NamedTuple):
    """A window on images of one size; each pair is (along rows, along columns).

    Attributes:
        inputs: positions of the image.
        size: positions of the window.
        stride: input positions from one output to the next.
        dilation: input positions from one window position to the next.
        padding: ((top, bottom), (left, right)).
    """

    inputs: Pair
    size: Pair
    stride: Pair
    dilation: Pair
    padding: tuple[Pair, Pair]

    @property
    def outputs(self) -> Pair:
        """Positions of the output."""
        rows, columns = (
            (n + p + q - d * (k - 1) - 1) // s + 1 for n, k, s, d, (p, q) in zip(*self, strict=True)
        )
        return rows, columns


class Range(NamedTuple):
    """Along one axis, `length` outputs from `output` on see each `stride`-th input from `start`."""

    start: int
    output: int
    length: int
    stride: int


class Tap(NamedTuple):
    """One position of the window, (row, column), and the outputs at which it sees a real input."""

    row: int
    column: int
    rows: Range
    columns: Range


def every_tap(window: Window) -> list[Tap]:
    """Return all window positions, row by row, also those that see nothing but padding."""
    rows, columns = (
        [_range(a, *axis) for a in range(axis[1])]
        for axis in zip(*window, window.outputs, strict=True)
    )
    return [Tap(a, b, r, c) for a, r in enumerate(rows) for b, c in enumerate(columns)]


def taps(window: Window) -> list[Tap]:
    """Return the window positions that see a real input somewhere; one at least, for its shapes."""
    every = every_tap(window)
    return [tap for tap in every if tap.rows.length and tap.columns.length] or every[:1]


def _range(a, n, k, s, d, padding, m) -> Range:
    offset = d * a - padding[0]  # u = s i + offset
    first = max(-(offset // s), 0)
    last = min((n - 1 - offset) // s, m - 1)
    if first > last:
        return Range(0, 0, 0, s)
    return Range(s * first + offset, first, last - first + 1, s)


def seen(x: jax.Array, tap: Tap) -> jax.Array:
    """Return what the tap sees of images x [N, rows, columns, ...]."""
    rows, columns = (
        slice(r.start, r.start + r.stride * r.length, r.stride) for r in (tap.rows, tap.columns)
    )
    return x[:, rows, columns]


def seeing(y: jax.Array, tap: Tap) -> jax.Array:
    """Return the part of the outputs y [N, rows, columns, ...] that sees what `seen` returns."""
    rows, columns = (slice(r.output, r.output + r.length) for r in (tap.rows, tap.columns))
    return y[:, rows, columns]


def into_inputs(part: jax.Array, tap: Tap, window: Window) -> jax.Array:
    """Return zeros in the shape of the images, with `part` where the tap sees it."""
    spans = [
        (r.start, n - r.start - r.stride * max(r.length - 1, 0) - (r.length > 0), r.stride - 1)
        for r, n in zip((tap.rows, tap.columns), window.inputs, strict=True)
    ]
    return _padded(part, spans)


def into_outputs(part: jax.Array, tap: Tap, window: Window) -> jax.Array:
    """Return zeros in the shape of the outputs, with `part` where the tap sees a real input."""
    spans = [
        (r.output, m - r.output - r.length, 0)
        for r, m in zip((tap.rows, tap.columns), window.outputs, strict=True)
    ]
    return _padded(part, spans)


def _padded(part, spans):
    spans = [(0, 0, 0), *spans, *[(0, 0, 0)] * (part.ndim - 3)]
    return jax.lax.pad(part, part.dtype.type(0), spans)


# --- what the user may write ---------------------------------------------------------------------


def window_on(
    op: str,
    x: jax.Array,
    size: Pair,
    stride: int | Sequence[int],
    padding: Padding,
    dilation: int | Sequence[int] = 1,
) -> Window:
    """Return the window that the arguments of an op describe, on images x [N, rows, columns, C].

    Raises:
        TypeError: a number is not a whole one.
        ValueError: x has other axes, a number is out of range, or the window does not fit.
    """
    if x.ndim != 4:
        raise ValueError(f"{op}: x must be [N, rows, columns, C]; got shape {list(x.shape)}")
    inputs = (x.shape[1], x.shape[2])
    strides, dilations = pair(op, "stride", stride), pair(op, "dilation", dilation)
    window = Window(inputs, size, strides, dilations, ((0, 0), (0, 0)))
    window = window._replace(padding=_padding(op, padding, window))
    if min(window.outputs) < 1:
        raise ValueError(
            f"{op}: the window {list(size)} with dilation {list(dilations)} does not fit in images "
            f"{list(inputs)} with padding {[list(p) for p in window.padding]}"
        )
    return window


def pair(op: str, name: str, value: int | Sequence[int]) -> Pair:
    """Return a whole number from 1 on, or two of them, as two."""
    numbers = _whole_numbers(op, name, value)
    if len(numbers) != 2 or min(numbers) < 1:
        raise ValueError(f"{op}: {name} must be a number from 1 on, or two; got {value}")
    return numbers[0], numbers[1]


def _padding(op: str, padding: Padding, window: Window) -> tuple[Pair, Pair]:
    if padding == "VALID":
        return (0, 0), (0, 0)
    if padding == "SAME":
        # As much as m = ceil(n / s) outputs need, the odd one after the input.
        needed = [
            max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            for n, k, s, d, _ in zip(*window, strict=True)
        ]
        rows, columns = ((total // 2, total - total // 2) for total in needed)
        return rows, columns
    allowed = '"SAME", "VALID", a number from 0 on, or ((top, bottom), (left, right))'
    if isinstance(padding, str):
        raise ValueError(f"{op}: padding must be {allowed}; got {padding!r}")
    if isinstance(padding, Sequence):
        pairs = [axis for axis in padding if isinstance(axis, Sequence)]
        axes = [_whole_numbers(op, "padding", axis) for axis in pairs]  # type: ignore[arg-type]
    else:
        axes = [_whole_numbers(op, "padding", padding)] * 2
    if len(axes) != 2 or any(len(axis) != 2 or min(axis) < 0 for axis in axes):
        raise ValueError(f"{op}: padding must be {allowed}; got {padding}")
    (top, bottom), (left, right) = axes
    return (top, bottom), (left, right)


def _whole_numbers(op: str, name: str, value: int | Sequence[int]) -> tuple[int, ...]:
    several = value if isinstance(value, Sequence) else (value, value)
    try:
        return tuple(operator.index(number) for number in several)
    except TypeError:
        raise TypeError(f"{op}: {name} must be of whole numbers; got {value!r}") from None
