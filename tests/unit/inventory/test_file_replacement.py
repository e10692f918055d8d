"""A file is replaced as a whole, only while it still has the text that was read. Nothing of others is lost."""

import fcntl
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inventory.editing import file_replacement
from inventory.editing.file_replacement import FileChanged, FileNotWritable, replace_file
from inventory.errors import InventoryError

OLD, NEW = "machines: [{name: a}]\n", "machines: [{name: a, owner: os}]\n"
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.yaml"
    path.write_text(OLD)
    return path


def test_mode_attributes_and_mark_stay(fleet: Path) -> None:
    fleet.write_bytes(b"\xef\xbb\xbf" + OLD.encode())
    fleet.chmod(0o640)
    os.setxattr(fleet, "user.note", b"x")
    replace_file(fleet, OLD, NEW)
    assert fleet.read_bytes() == b"\xef\xbb\xbf" + NEW.encode()
    assert (stat.S_IMODE(fleet.stat().st_mode), os.getxattr(fleet, "user.note")) == (0o640, b"x")
    assert list(fleet.parent.iterdir()) == [fleet]


@as_root
def test_the_owner_stays(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETPATCH_TRUSTED_OWNERS", str(NOBODY))
    os.chown(fleet, NOBODY, NOBODY)
    replace_file(fleet, OLD, NEW)
    assert (fleet.stat().st_uid, fleet.read_text()) == (NOBODY, NEW)


def test_a_link_stays_a_link(fleet: Path) -> None:
    link = fleet.with_name("link.yaml")
    link.symlink_to("fleet.yaml")
    replace_file(link, OLD, NEW)
    assert (link.is_symlink(), fleet.read_text()) == (True, NEW)


@pytest.mark.parametrize("present", [f"{OLD}# mine\n", "", None])
def test_a_file_that_was_changed_meanwhile_is_left(fleet: Path, present: str | None) -> None:
    if present is None:
        fleet.unlink()
    else:
        fleet.write_text(present)
    with pytest.raises(FileChanged):
        replace_file(fleet, OLD, NEW)
    assert (fleet.read_text() if fleet.exists() else None) == present


def test_of_many_at_once_one_wins_and_the_others_learn_it(fleet: Path) -> None:
    texts = [f"{OLD}# {number}\n" for number in range(8)]
    together = threading.Barrier(len(texts))

    def write(text: str) -> str:
        together.wait(10)
        try:
            replace_file(fleet, OLD, text)
        except FileChanged:
            return ""
        return text

    with ThreadPoolExecutor(len(texts)) as pool:
        written = [text for text in pool.map(write, texts) if text]
    assert written == [fleet.read_text()]


def test_it_waits_for_another_writer_and_not_forever(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_replacement, "LOCK_SECONDS", 0.1)
    with fleet.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(FileChanged, match="another process has held the lock"):
            replace_file(fleet, OLD, NEW)
    replace_file(fleet, OLD, NEW)
    assert fleet.read_text() == NEW


@as_root
@pytest.mark.parametrize("who_else", ["owner", "group"])
def test_a_file_of_others_is_not_written(fleet: Path, who_else: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacker: a user of this system. Way: a file of theirs as the inventory. Must hold: nothing is written."""
    monkeypatch.delenv("FLEETPATCH_TRUSTED_OWNERS", raising=False)
    if who_else == "owner":
        os.chown(fleet, NOBODY, NOBODY)
    else:
        fleet.chmod(0o666)
    with pytest.raises(FileNotWritable, match="not trusted"):
        replace_file(fleet, OLD, NEW)
    assert fleet.read_text() == OLD


def test_further_names_of_the_file_are_no_accident(fleet: Path) -> None:
    os.link(fleet, fleet.with_name("other"))
    with pytest.raises(FileNotWritable, match="hard links"):
        replace_file(fleet, OLD, NEW)


@pytest.mark.parametrize("number", [13, 30, 16, 28])
def test_an_error_of_the_system_leaves_the_old_file(fleet: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission denied, read-only file system, busy (a file that is mounted alone), disk full."""

    def rename(_self: Path, _target: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(InventoryError) as caught:
        replace_file(fleet, OLD, NEW)
    assert isinstance(caught.value, FileNotWritable) is (number != 28)
    assert caught.value.is_storage_fault is (number == 28)
    assert (fleet.read_text(), list(fleet.parent.iterdir())) == (OLD, [fleet])


def test_a_new_file_never_replaces_one(tmp_path: Path) -> None:
    path = tmp_path / "host_vars" / "a.yml"
    replace_file(path, None, NEW)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == (NEW, 0o644)
    with pytest.raises(FileChanged, match="made meanwhile"):
        replace_file(path, None, OLD)
    assert (path.read_text(), list(path.parent.iterdir())) == (NEW, [path])
