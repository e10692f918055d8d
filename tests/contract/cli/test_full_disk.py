"""A disk here that takes nothing more: the message says so, where, how much is free, and what to do."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleetpatch.cli.runtime.error_description import describe_error
from fleetpatch.cli.runtime.exit_codes import ExitCode
from inventory.errors import FleetpatchError
from inventory.files.paths import find_storage_fault
from inventory.host_key_store import HostKeyStore
from tasks.records.setup import open_records
from tasks.reports.report_directory import require_writable_directory
from tests.support.ssh_server import new_key

Disk = Callable[[str], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """`disk(options)` gives a small disk."""
    disks: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"disk{len(disks)}"
        folder.mkdir()
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
        ).returncode:
            pytest.skip("this user mounts no disks")
        disks.append(folder)
        return folder

    yield mount
    for folder in disks:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> None:
    with (folder / "fill").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def fail(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises((FleetpatchError, OSError)) as caught:
        call()
    told = describe_error(caught.value)
    assert told.exit_code is ExitCode.NO_STORAGE
    assert "backup" not in told.hint
    return told.message, told.hint


def learn_key(folder: Path) -> None:
    key = new_key(Path(os.environ["HOME"]) / "key")
    HostKeyStore.load(folder / "known_hosts").pin_first_key("a", 22, key.get_name(), key.get_base64())


def test_a_full_disk_is_named_with_what_is_free(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TMPDIR", raising=False)
    folder = disk("size=4m")  # the new records fit, with their journal
    url = f"sqlite:///{folder / 'records.db'}"
    open_records(url).close()
    fill(folder)
    empty = disk("size=64k")
    fill(empty)
    for call in (
        lambda: open_records(url),
        lambda: open_records(f"sqlite:///{empty / 'records.db'}"),
        lambda: require_writable_directory(empty / "reports"),
        lambda: learn_key(empty),
    ):
        message, hint = fail(call)
        assert "is full: 0 B of " in message
        assert "Make room there (df -h" in hint
        assert str(folder if "disk0" in message else empty) in message
    message, hint = fail(lambda: (empty / "x").write_bytes(bytes(9000)))
    assert (message, "df -h" in hint) == ("No space left on device", True)  # the system names no place


def test_a_disk_without_inodes_and_one_that_is_read_only(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    without, locked = disk("size=1m,nr_inodes=1"), disk("size=2m")
    open_records(f"sqlite:///{locked / 'records.db'}").close()
    subprocess.run(["mount", "-o", "remount,ro", locked], check=True)
    for folder, words, remedy in ((without, "0 of 1 are free", "df -i"), (locked, "is read-only", "ReadWritePaths=")):
        for call in (
            lambda: open_records(f"sqlite:///{folder / 'records.db'}"),  # noqa: B023
            lambda: require_writable_directory(folder / "reports"),  # noqa: B023
            lambda: learn_key(folder),  # noqa: B023
        ):
            message, hint = fail(call)
            assert words in message
            assert remedy in hint


def test_a_quota_and_a_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = find_storage_fault(tmp_path / "new" / "file", number=errno.EDQUOT)
    assert fault is not None
    assert fault.reason == f"the quota of this user is used up at {tmp_path}"
    assert find_storage_fault(tmp_path, number=errno.EACCES) is None
    assert find_storage_fault(tmp_path) is None
    usage = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*usage[:4], 0, *usage[5:])))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    error = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    assert f"the disk of {tmp_path} is full" in describe_error(error).message
