"""SIGTERM and Ctrl-C: the end of a command at a moment that it chooses."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType

NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Stopped(BaseException):
    """A signal ends the command; its text is the line for the person who sent it.

    Attributes:
        status: the exit status, 128 and the number of the signal.
    """

    def __init__(self, number: int, where: str = ""):
        super().__init__(NAMES[signal.Signals(number)] + where)
        self.status = 128 + number


class Signals:
    """Raises `Stopped` where a signal comes, or later; a second one ends the process at once.

    A context, in the main thread.

    Attributes:
        received: the signal that came while they were held.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._held = False

    def __enter__(self) -> "Signals":
        # Python runs a handler between two of its own instructions, which may be a compilation or
        # 500 steps away. The bytes in this pipe come at once.
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._handlers = {number: signal.signal(number, self._receive) for number in NAMES}
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._writer)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within it a signal is noted alone: the code there looks at `received`."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self._held:
            raise Stopped(number)
        self.received = number

    def _watch(self, reader: int) -> None:
        with open(reader, "rb", buffering=0) as pipe:
            if pipe.read(1) and self._held:
                print("saves as soon as it can; a second signal ends it at once", file=sys.stderr)
            if number := pipe.read(1):
                os._exit(128 + number[0])
