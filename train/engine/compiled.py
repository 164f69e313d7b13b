"""What this process compiled, kept for those who compute the same again."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")

# Programs and functions that are kept; the one that was not used for longest goes first.
MOST = 128

_kept: OrderedDict[Hashable, Any] = OrderedDict()
_lock = threading.RLock()


def kept(key: Hashable, make: Callable[[], T]) -> T:
    """Return what was made for a key before, or make it.

    Args:
        key: all that the result depends on.
        make: a function without arguments; it may use `kept` itself.
    """
    with _lock:
        if key not in _kept:
            made = make()
            _kept[key] = made
            while len(_kept) > MOST:
                _kept.popitem(last=False)
        _kept.move_to_end(key)
        return _kept[key]


def forget_all() -> None:
    """Free the memory of all that is kept."""
    with _lock:
        _kept.clear()
