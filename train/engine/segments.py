"""The segments of a training: the steps that one call of the compiled program takes."""

import math
from collections.abc import Iterator, Sequence

# Steps from one sign of life to the next, where evaluations are rarer.
LONGEST_SEGMENT = 500


def segments(ends: Sequence[int], eval_every: int, start: int = 0) -> Iterator[list[int]]:
    """Yield the lengths of the segments from each evaluation or end to the next.

    They are as equal as can be: each length is compiled once. From `start` on, which is where one
    begins, they are those that they were before.
    """
    pieces = math.ceil(eval_every / LONGEST_SEGMENT)
    longest = math.ceil(eval_every / pieces)
    step = 0
    for end in sorted(ends):
        while step < end:
            count = min(eval_every - step % eval_every, end - step)
            lengths = [
                min(longest, count - done)
                for done in range(0, count, longest)
                if step + done >= start
            ]
            if lengths:
                yield lengths
            step += count
