"""The folder of compiled programs: only this user may write to it."""

import os
import stat
from pathlib import Path

import pytest

from train.cache import cache_folder
from train.data import load
from train.errors import ConfigError

# Without a place in /etc/passwd or among the groups of a test machine.
OTHER = 54321


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def given(tmp_path, monkeypatch):
    folder = tmp_path / "given"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def mode(folder):
    return stat.S_IMODE(folder.stat().st_mode)


def belongs_to_another(folder, monkeypatch):
    """Let it belong to another user, or this user be another one."""
    if os.getuid() == 0:
        os.lchown(folder, OTHER, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: OTHER)


def test_it_lies_in_the_home_folder_or_where_the_environment_says(home, monkeypatch):
    assert cache_folder("compiled") == home / ".cache/jaxnets/compiled"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "given"))
    assert cache_folder("decoded") == home / "given/jaxnets/decoded"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder("decoded") == home / ".cache/jaxnets/decoded"


def test_what_is_made_is_for_this_user_alone(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "a" / "b"))
    before = os.umask(0)
    try:
        folder = cache_folder("compiled")
    finally:
        os.umask(before)
    assert [mode(path) for path in (folder, *folder.parents[:3])] == [0o700] * 4


def to_another_group(folder, _):
    if os.getuid() != 0:
        pytest.skip("only root gives a folder to a group")
    os.chown(folder, -1, OTHER)
    folder.chmod(0o720)


UNSAFE = {
    "all users": lambda folder, _: folder.chmod(0o702),
    "its group": to_another_group,
    "another user": belongs_to_another,
}

ADVICE = {
    "all users": "can be written by all users; run chmod o-w {}, or name another",
    "its group": "can be written by its group; run chmod g-w {}, or name another",
    "another user": "belongs to another user; name a folder of your own",
}


@pytest.mark.parametrize("below", ["", "jaxnets", "jaxnets/compiled"])
@pytest.mark.parametrize("who", UNSAFE)
def test_a_folder_that_others_can_write_is_refused(given, monkeypatch, who, below):
    folder = given / below
    folder.mkdir(parents=True, exist_ok=True)
    UNSAFE[who](folder, monkeypatch)
    with pytest.raises(ConfigError) as caught:
        cache_folder("compiled")
    # Where this user is another one, the first folder belongs to another user already.
    shown = given if who == "another user" and os.getuid() else folder
    assert str(caught.value) == (
        f"XDG_CACHE_HOME={given}: {shown} {ADVICE[who].format(shown)}. Compiled programs are kept "
        f"there, so others could have their code run"
    )


@pytest.mark.parametrize("who", UNSAFE)
def test_a_home_folder_that_others_can_write_is_not_used(home, monkeypatch, who):
    (home / ".cache").mkdir()
    UNSAFE[who](home / ".cache", monkeypatch)
    assert cache_folder("compiled") is None
    assert not list((home / ".cache").iterdir())


def test_it_may_lie_in_a_sticky_folder_such_as_tmp(given):
    given.chmod(0o1777)
    folder = cache_folder("compiled")
    assert folder == given / "jaxnets/compiled"
    folder.parent.chmod(0o1777)  # But others can add files to it.
    with pytest.raises(ConfigError, match="jaxnets can be written by all users"):
        cache_folder("compiled")


def test_the_own_group_may_write(given, monkeypatch):
    """As with the umask 002 of users who have a group of their own."""
    given.chmod(0o770)
    monkeypatch.setattr("train.cache._own_group", lambda: given.stat().st_gid)
    assert cache_folder("compiled") == given / "jaxnets/compiled"
    monkeypatch.setattr("train.cache._own_group", lambda: given.stat().st_gid + 1)
    with pytest.raises(ConfigError, match="written by its group; run chmod g-w"):
        cache_folder("compiled")


def test_a_link_of_another_user_is_not_followed(given, tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    link = given / "jaxnets"
    link.symlink_to(tmp_path / "own")
    assert cache_folder("compiled") == link / "compiled"
    if os.getuid() != 0:
        pytest.skip("only root gives a link away")
    belongs_to_another(link, monkeypatch)
    with pytest.raises(ConfigError, match="belongs to another user"):
        cache_folder("compiled")


def test_a_user_without_a_name(given, monkeypatch):
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    given.chmod(0o770)
    assert cache_folder("compiled") is not None


def test_without_a_folder_nothing_is_kept(home, monkeypatch):
    (home / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "file"))
    assert cache_folder("compiled") is None
    monkeypatch.delenv("XDG_CACHE_HOME")

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder("compiled") is None


def test_data_are_not_read_from_a_folder_that_others_can_write(given):
    given.chmod(0o777)
    with pytest.raises(ConfigError, match="can be written by all users"):
        load("digits")
    assert not list(given.iterdir())
