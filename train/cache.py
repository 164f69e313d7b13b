"""The folder of what can be made anew: compiled programs and decoded data sets."""

import os
import shlex
import stat
from pathlib import Path

from train.errors import ConfigError


def cache_folder(name: str) -> Path | None:
    """Return a folder for files that can be deleted at any time; it is made where it is missing.

    It lies in `jaxnets` in the folder that XDG_CACHE_HOME names, or else in ~/.cache. What is
    created can be read by this user alone.

    Args:
        name: of the folder, such as "compiled".

    Returns:
        The folder; None where it cannot be made, or where other users can write to ~/.cache.

    Raises:
        ConfigError: other users can write to the folder that XDG_CACHE_HOME names.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        top = Path(given) if given else Path.home() / ".cache"
        for folder in (top, top / "jaxnets", top / "jaxnets" / name):
            _make(folder)
            problem = _problem(folder, parent=folder == top)
            if problem and given:
                raise ConfigError(
                    f"XDG_CACHE_HOME={shlex.quote(given)}: {problem}. Compiled programs are kept "
                    f"there, so others could have their code run"
                )
            if problem:
                return None
    except (OSError, RuntimeError):  # It cannot be written, or this user has no home.
        return None
    return folder


def _make(folder: Path) -> None:
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _problem(folder: Path, parent: bool) -> str:
    """Return why others can change what lies in a folder, and what to do; empty if they cannot.

    Args:
        folder: an existing folder.
        parent: a sticky folder such as /tmp is safe: in it, others cannot replace what is ours.
    """
    if not hasattr(os, "getuid"):  # Windows gives each user a folder of their own.
        return ""
    found, name = folder.stat(), shlex.quote(str(folder))
    # Whoever owns a symbolic link can let it point elsewhere.
    if not {found.st_uid, folder.lstat().st_uid} <= {0, os.getuid()}:
        return f"{name} belongs to another user; name a folder of your own"
    if parent and found.st_mode & stat.S_ISVTX:
        return ""
    for bit, allowed, who, letter in (
        (stat.S_IWOTH, False, "all users", "o"),
        (stat.S_IWGRP, found.st_gid == _own_group(), "its group", "g"),
    ):
        if found.st_mode & bit and not allowed:
            return f"{name} can be written by {who}; run chmod {letter}-w {name}, or name another"
    return ""


def _own_group() -> int:
    """Return the primary group of this user; the current one may be shared, as after newgrp."""
    import pwd  # Windows has none.

    try:
        return pwd.getpwuid(os.getuid()).pw_gid
    except KeyError:  # A container may run as a user without a name.
        return os.getgid()
