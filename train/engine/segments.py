"""The segments of a training: the steps that one call of the compiled program takes."""

import math
from collections.abc import Iterator, Sequence

# Steps from one sign of life to the next, where evaluations are rarer.
LONGEST_SEGMENT = 500


def segments(ends: Sequence[int], eval_every: int, start: int = 0) -> Iterator[list[int]]:
    """Yield the lengths of the segments from each evaluation or end to the next.

    They are as equal as can be: each length is compiled once. From `start` on, where one begins or
    a shorter run ended, they are those that they would have been.
    """
    pieces = math.ceil(eval_every / LONGEST_SEGMENT)
    longest = math.ceil(eval_every / pieces)
    step = 0
    for end in sorted(ends):
        while step < end:
            count = min(eval_every - step % eval_every, end - step)
            ends_of = [step + min(done + longest, count) for done in range(0, count, longest)]
            begins = [step, *ends_of[:-1]]
            lengths = [
                after - max(before, start)
                for before, after in zip(begins, ends_of, strict=True)
                if after > start
            ]
            if lengths:
                yield lengths
            step += count
