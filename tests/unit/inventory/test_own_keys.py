"""Keys that fleetpatch makes for itself are private files, made once."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inventory.files.own_keys import KeyFileError, ensure_key, find_key_path, read_key


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEETPATCH_KEYS", str(tmp_path / "keys"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return tmp_path / "keys"


def test_is_made_once_and_only_its_owner_can_read_it(folder: Path) -> None:
    assert read_key("seal") is None
    key = ensure_key("seal")
    assert len(key) >= 32
    assert ensure_key("seal") == read_key("seal") == key
    assert ensure_key("other") != key
    assert stat.S_IMODE((folder / "seal").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["other", "seal"]


def test_several_processes_at_once_get_the_same_key() -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: ensure_key("seal"), range(40)))) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_can_read_is_refused(folder: Path, mode: int) -> None:
    ensure_key("seal")
    (folder / "seal").chmod(mode)
    with pytest.raises(KeyFileError, match=r"can be read or written by others") as refusal:
        ensure_key("seal")
    assert str(folder / "seal") in str(refusal.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(folder: Path) -> None:
    ensure_key("seal")
    os.chown(folder / "seal", 65534, 65534)
    with pytest.raises(KeyFileError, match="belongs to another user"):
        read_key("seal")


def test_a_link_an_empty_file_and_a_pipe_are_refused(folder: Path, tmp_path: Path) -> None:
    ensure_key("seal")
    (folder / "link").symlink_to(folder / "seal")
    with pytest.raises(KeyFileError, match="can't be read"):
        ensure_key("link")
    (folder / "seal").write_text("\n")
    with pytest.raises(KeyFileError, match="is empty"):
        ensure_key("seal")
    os.mkfifo(folder / "pipe", 0o600)
    with pytest.raises(KeyFileError, match="no regular file"):
        read_key("pipe")


def test_a_folder_that_others_can_write_is_refused(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(KeyFileError, match="others can write"):
        ensure_key("seal")


def test_a_credential_of_systemd_wins(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_key("seal")
    (tmp_path / "fleetpatch-seal").write_text("from systemd\n")
    (tmp_path / "fleetpatch-seal").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert find_key_path("seal") == tmp_path / "fleetpatch-seal"
    assert ensure_key("seal") == b"from systemd"
    assert ensure_key("other") == (folder / "other").read_bytes().strip()


def test_a_credential_of_kubernetes_is_a_link_inside_its_folder(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = tmp_path / "volume"
    (volume / "..2026_01_06").mkdir(parents=True)
    (volume / "..data").symlink_to("..2026_01_06")
    (volume / "fleetpatch-seal").symlink_to("..data/fleetpatch-seal")
    (volume / "..data/fleetpatch-seal").write_text("from kubernetes\n")
    (volume / "..data/fleetpatch-seal").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(volume))
    assert ensure_key("seal") == b"from kubernetes"
    (volume / "..data/fleetpatch-seal").chmod(0o444)
    with pytest.raises(KeyFileError, match="by others"):
        ensure_key("seal")
    ensure_key("other")
    (volume / "fleetpatch-elsewhere").symlink_to(folder / "other")
    with pytest.raises(KeyFileError, match="leads out of its folder"):
        ensure_key("elsewhere")


@pytest.mark.parametrize("name", ["", "../seal", "a/b", "Seal", "-x"])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a key"):
        find_key_path(name)


def test_folders_above_it_are_made_for_their_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "share/fleetpatch"
    monkeypatch.setenv("FLEETPATCH_KEYS", str(place / "keys"))
    umask = os.umask(0)
    try:
        ensure_key("seal")
    finally:
        os.umask(umask)
    assert [stat.S_IMODE(each.stat().st_mode) for each in (place / "keys", place, place.parent)] == [0o700] * 3
