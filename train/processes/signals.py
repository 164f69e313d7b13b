"""SIGTERM and Ctrl-C: the end of a command at a moment that it chooses."""

import contextlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}

# A signal that Python code does not answer in this time ends the process: one that came in the
# middle of a long computation of C++, or whose exception a library swallowed.
_PATIENCE = 1.0  # Seconds.

T = TypeVar("T")


class Stopped(BaseException):
    """A signal ends the command; its text is the line for the person who sent it.

    Attributes:
        status: the exit status, 128 and the number of the signal.
        found: what knows the results until then.
    """

    def __init__(self, number: int, where: str = ""):
        super().__init__(NAMES[signal.Signals(number)] + where)
        self.status = 128 + number
        self.found: Any = None


def answer_at_once() -> None:
    """Let a signal end the process with its line, for as long as there is nothing to clean up.

    So it is while a command is imported. An exception would not do: what is imported might take it
    for its own, and show it in a traceback.
    """

    def end(number: int, frame: FrameType | None) -> None:
        _end(Stopped(number))

    for number in NAMES:
        signal.signal(number, end)


def _end(stopped: Stopped) -> None:
    # Not by print, whose lock the code that was interrupted may hold.
    os.write(2, f"{stopped}\n".encode())
    os._exit(stopped.status)


class Signals:
    """Raises `Stopped` where a signal comes, or later; a second one ends the process at once.

    A context, in the main thread.

    Attributes:
        received: the signal that came.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._held = False
        self._raised = self._dropped = False
        self._left = threading.Event()

    def __enter__(self) -> "Signals":
        # Python runs a handler between two of its own instructions, which may be a compilation or
        # 500 steps away. The bytes in this pipe come at once.
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._handlers = {number: signal.signal(number, self._receive) for number in NAMES}
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._cannot_be_raised
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._left.set()
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._writer)
        sys.unraisablehook = self._hook
        if self._raised and isinstance(error, Exception):
            assert self.received is not None
            raise Stopped(self.received) from error  # Of which a library made another error.

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within it a signal is noted alone: the code there looks at `received`."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if self._held and not _Aside.waiting:
            return
        if _importing(frame):
            self._dropped = True
            return
        self._raised = True
        raise Stopped(number)

    def _cannot_be_raised(self, unraisable: Any) -> None:
        """Note a `Stopped` that Python drops, in a callback of the garbage collector of JAX's."""
        if isinstance(unraisable.exc_value, Stopped):
            self._dropped = True
        else:
            self._hook(unraisable)

    def _watch(self, reader: int) -> None:
        with io.FileIO(reader) as pipe:
            if (first := pipe.read(1)) and not self._held:
                self._see_it_raised(first[0], pipe)
            elif first and not _Aside.waiting:
                print("Saving… press Ctrl-C again to quit without saving.", file=sys.stderr)
            if number := pipe.read(1):
                os._exit(128 + number[0])

    def _see_it_raised(self, number: int, pipe: io.FileIO) -> None:
        """Raise `Stopped` anew where it was dropped; end the process where it has no effect."""
        until = time.monotonic() + _PATIENCE
        main = threading.main_thread().ident
        assert main is not None  # It runs.
        while not self._left.wait(0.02):
            if time.monotonic() > until:
                _end(Stopped(number))
            if self._dropped:
                self._dropped = False
                signal.pthread_kill(main, number)
                pipe.read(1)


class Interruption:
    """Raises `Stopped` where Ctrl-C comes, or later; a second one raises `KeyboardInterrupt`.

    A context like `Signals`, for a Python session, which goes on after it. Outside of the main
    thread it does nothing, because signals reach that thread alone.

    Attributes:
        received: the signal that came.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._held = False
        self._handler: Any = None

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within it a signal is noted alone: the code there looks at `received`."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
        if not self._held or _Aside.waiting:
            raise Stopped(number)


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported; jaxlib's crashes of an exception in the midst of it."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


class _Aside:
    """What `aside` does at the moment."""

    waiting = False  # The main thread waits for it, and can be interrupted.
    abandoned = False  # The main thread was.


def aside(work: Callable[[], T]) -> T:
    """Do some work in C++ in another thread, so that the main thread can answer a signal.

    Args:
        work: is left alone where a signal comes, even while signals are held; it has no effect
            but for what it returns.

    Returns:
        What `work` returns.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    found: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def do() -> None:
        try:
            found.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=do, daemon=True)
    _Aside.waiting = True
    try:
        thread.start()
        done.wait()
    finally:
        _Aside.waiting = False
        _Aside.abandoned |= not done.is_set()
    if errors:
        raise errors[0]
    return found[0]


def leave(status: int) -> int:
    """Return the exit status; end the process with it where it would have to wait for a thread."""
    if _Aside.abandoned:
        sys.stdout.flush()
        os._exit(status)
    return status
