"""The steps that one call of the compiled program takes."""

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from tests.properties import few
from train.engine import segments


def test_a_segment_takes_five_hundred_steps_at_most():
    assert list(segments.segments([1501], 1500)) == [[500, 500, 500], [1]]
    assert list(segments.segments([501], 501)) == [[251, 250]]
    assert list(segments.segments([250, 120], 100)) == [[100], [20], [80], [50]]


@few
@given(st.lists(st.integers(1, 2500), min_size=1, max_size=4), st.integers(1, 1500))
def test_segments_lead_to_each_evaluation_and_each_end(ends, every):
    found = list(segments.segments(ends, every))
    steps = list(itertools.accumulate(map(sum, found)))
    stops = {*ends, *range(every, max(ends), every)}
    assert steps == sorted(stops)
    lengths = [length for part in found for length in part]
    assert 1 <= min(lengths) <= max(lengths) <= segments.LONGEST_SEGMENT
    # As equal as can be: few lengths are compiled.
    assert all(len(set(part[:-1])) <= 1 for part in found)
    assert all(part[-1] <= part[0] for part in found)
    assert max(map(len, found)) <= math.ceil(every / segments.LONGEST_SEGMENT)


@few
@given(st.lists(st.integers(1, 2500), min_size=1, max_size=3), st.integers(1, 1500), st.data())
def test_from_any_segment_on_they_are_those_that_they_would_have_been(ends, every, data):
    whole = list(segments.segments(ends, every))
    begins = [0, *itertools.accumulate(length for part in whole for length in part)]
    start = data.draw(st.sampled_from(begins))
    rest, done = [], 0
    for part in whole:
        left = []
        for length in part:
            left += [length] if done >= start else []
            done += length
        rest += [left] if left else []
    assert list(segments.segments(ends, every, start)) == rest


@few
@given(st.lists(st.integers(1, 2500), min_size=1, max_size=3), st.integers(1, 1500), st.data())
def test_from_where_a_shorter_run_ended_they_stop_where_they_would_have(ends, every, data):
    start = data.draw(st.integers(0, max(ends)))
    whole = itertools.accumulate(n for part in segments.segments(ends, every) for n in part)
    rest = [n for part in segments.segments(ends, every, start) for n in part]
    assert [start + done for done in itertools.accumulate(rest)] == [s for s in whole if s > start]
