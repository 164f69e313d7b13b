"""What is shown of texts that are long, or that the stream cannot encode or no one reads."""

import io
import signal
import sys

import pytest

from train.flags import terminal


def test_a_value_is_shown_whole_up_to_200_characters():
    assert terminal.shortened("a" * 200) == "a" * 200
    assert terminal.shortened("a" * 201) == "a" * 40 + "... (201 characters)"


@pytest.mark.parametrize(("sign", "written"), [("\ud800", rb"\ud800"), ("\udfff", rb"\udfff"),
                                               ("\ue000", b"?"), ("\ud7fb", b"?")])  # fmt: skip
def test_half_a_sign_is_escaped_and_a_foreign_one_a_question_mark(sign, written):
    assert sign.encode("ascii", "jaxnets.replace") == written


def test_a_text_that_cannot_be_decoded_is_still_an_error():
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", "jaxnets.replace")


def test_a_text_is_shown_at_once_and_in_silence_where_no_one_reads(monkeypatch):
    left = []
    monkeypatch.setattr(terminal, "leave_closed_pipe", lambda: left.append(True))
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    terminal.show("text")
    assert stream.buffer.getvalue() == b"text\n"
    assert not left

    class Closed(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    terminal.show("text")
    assert left == [True]
    assert terminal.CLOSED_PIPE == 128 + signal.SIGPIPE  # As a shell says it.
