"""What this process compiled, kept for those who compute the same again."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax

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


# Options of XLA's on a CPU. For 64-100-10 with batch 200 and Adam, compiling takes 1.7 s of a core
# without them, 0.6 with SOON and 0.3 with AT_ONCE; 320 steps then take 0.09, 0.08 and 0.25.
_SOON = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
_AT_ONCE = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 0}


def quick(little: bool) -> dict[str, Any]:
    """Return options of XLA's to compile in less time.

    Args:
        little: what is compiled computes little, so that it need not be fast.
    """
    if jax.default_backend() != "cpu":
        return {}
    options = _AT_ONCE if little else _SOON
    return kept(
        ("quick", little), lambda: {name: v for name, v in options.items() if _is_known(name, v)}
    )


def _is_known(name: str, value: Any) -> bool:
    """Whether this version of XLA has an option."""
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def forget_all() -> None:
    """Free the memory of all that is kept."""
    with _lock:
        _kept.clear()
