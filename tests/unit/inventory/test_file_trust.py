"""Who may have written a file that decides what runs. Links and owners need root, as CI has it."""

import grp
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from flows.prefect_api.server_settings import require_trusted_settings
from inventory.errors import InvalidInventory, InventoryError
from inventory.files import file_trust
from inventory.files.file_trust import TRUSTED_OWNERS_VARIABLE, UntrustedFile, require_trusted, require_trusted_path
from inventory.host_key_store import HostKeyStore
from inventory.loader import load_inventory
from tasks.domain.errors import FeedError
from tasks.records.feeds.feed_text import iterate_text

NOBODY = 65534
FLEET = "machines: [{name: a}]\n"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture(autouse=True)
def _nobody_else_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRUSTED_OWNERS_VARIABLE, raising=False)
    monkeypatch.delenv("SUDO_UID", raising=False)


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "fleet.yaml"
    path.parent.mkdir()
    path.write_text(FLEET)
    return path


def give(path: Path, *, user: int = -1, group: int = -1, mode: int | None = None) -> None:
    os.chown(path, user, group, follow_symlinks=False)
    if mode is not None:
        path.chmod(mode)


def require_refused(path: Path, *words: str) -> UntrustedFile:
    with pytest.raises(UntrustedFile) as caught:
        require_trusted_path(path)
    assert all(word in caught.value.message for word in words), caught.value.message
    return caught.value


def test_my_own_file_below_a_sticky_folder_is_trusted(fleet: Path) -> None:
    fleet.parent.chmod(0o1777)
    require_trusted_path(fleet)
    assert [machine.name for machine in load_inventory(fleet).machines] == ["a"]


@pytest.mark.parametrize(
    ("spoil", "words", "hint"),
    [
        (lambda path: give(path, user=NOBODY), "it belongs to nobody, and fleetpatch runs as root", "chown root"),
        (lambda path: path.chmod(0o646), "everybody can write to it (mode 0646)", "chmod go-w"),
        (lambda path: give(path, group=NOBODY, mode=0o664), "the group nogroup can write", "%nogroup"),
        (lambda path: give(path.parent, user=NOBODY), "its folder {folder} belongs to nobody", "Move the file"),
        (lambda path: path.parent.chmod(0o777), "everybody can write to its folder {folder} (mode 0777)", "chmod go-w"),
        (lambda path: give(path.parent, group=NOBODY, mode=0o2775), "the group nogroup", "chmod g-w"),
    ],
)
def test_each_reader_tells_who_may_have_written_it(
    fleet: Path, spoil: Callable[[Path], object], words: str, hint: str
) -> None:
    spoil(fleet)
    expected = words.format(folder=fleet.parent)
    assert hint in require_refused(fleet, expected).hint
    with pytest.raises(InvalidInventory) as caught:
        load_inventory(fleet)
    assert caught.value.file == fleet
    assert expected in caught.value.message
    assert hint in caught.value.hint
    with pytest.raises(InventoryError, match="known hosts are not trusted"):
        HostKeyStore.load(fleet).find_keys("a", 22)
    with pytest.raises(FeedError, match="is not trusted"):
        list(iterate_text(fleet))


def test_a_folder_that_others_can_write_is_refused_before_its_files(fleet: Path) -> None:
    fleet.unlink()
    fleet.parent.chmod(0o777)
    with pytest.raises(InvalidInventory, match="this directory is not trusted: everybody can write to it"):
        load_inventory(fleet.parent)


def test_variables_of_ansible_are_checked_as_well(tmp_path: Path) -> None:
    (tmp_path / "hosts.ini").write_text("web-1\n")
    (tmp_path / "group_vars").mkdir()
    variables = tmp_path / "group_vars/all.yml"
    variables.write_text("ansible_user: ops\n")
    assert load_inventory(tmp_path / "hosts.ini").machines[0].user == "ops"
    give(variables, user=NOBODY)
    with pytest.raises(InvalidInventory, match="this file is not trusted: it belongs to nobody"):
        load_inventory(tmp_path / "hosts.ini")


def test_a_link_and_its_target_are_checked_both(fleet: Path, tmp_path: Path) -> None:
    link = tmp_path / "links" / "fleet.yaml"
    link.parent.mkdir()
    link.symlink_to("../folder/fleet.yaml")
    require_trusted_path(link)

    give(link, user=NOBODY)
    require_refused(link, f"the link {link} belongs to nobody")
    give(link, user=0)
    link.parent.chmod(0o777)
    require_refused(link, f"everybody can write to its folder {link.parent}")
    link.parent.chmod(0o755)
    fleet.parent.chmod(0o777)
    require_refused(link, f"everybody can write to its folder {fleet.parent}")


def test_links_in_a_ring_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    descriptor = os.open(tmp_path, os.O_PATH)
    with pytest.raises(OSError, match="Too many levels"):
        require_trusted(tmp_path / "a", descriptor)
    os.close(descriptor)


def test_a_file_that_is_exchanged_after_it_was_opened_is_refused(fleet: Path) -> None:
    descriptor = os.open(fleet, os.O_RDONLY)
    fleet.rename(fleet.with_name("old"))
    fleet.write_text(FLEET)
    with pytest.raises(UntrustedFile, match="exchanged"):
        require_trusted(fleet, descriptor)
    os.close(descriptor)


@pytest.mark.parametrize("words", ["<(cat)", "/dev/stdin"])
@pytest.mark.parametrize("is_pipe", [True, False])
def test_what_a_shell_hands_over_has_no_name_and_is_trusted(words: str, *, is_pipe: bool) -> None:
    program = (
        "import sys; from pathlib import Path; from inventory.loader import load_inventory; "
        "print(len(load_inventory(Path(sys.argv[1])).machines))"
    )
    command = f'"{sys.executable}" -c "{program}" {words}'
    with tempfile.TemporaryFile() as removed:
        removed.write(FLEET.encode())
        removed.seek(0)
        shell = ["bash", "-c", f"cat | {command}" if is_pipe else command]
        shown = subprocess.run(shell, stdin=removed, capture_output=True, text=True, check=False)
    assert (shown.stdout, shown.stderr) == ("1\n", "")


def test_a_named_pipe_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    os.mkfifo(path)
    give(path, user=NOBODY)
    require_refused(path, "it belongs to nobody")


def test_an_administrator_names_further_owners(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give(fleet, user=NOBODY)
    give(fleet.parent, user=12345)
    monkeypatch.setenv(TRUSTED_OWNERS_VARIABLE, "nobody")
    assert f"{TRUSTED_OWNERS_VARIABLE}=12345" in require_refused(fleet, "belongs to uid 12345").hint
    monkeypatch.setenv(TRUSTED_OWNERS_VARIABLE, "nobody 12345")
    require_trusted_path(fleet)
    fleet.chmod(0o666)
    require_refused(fleet, "everybody can write")


@pytest.mark.parametrize("name", ["no-such-user", "%no-such-group", "-1", "*"])
def test_unknown_owners_trust_nobody(fleet: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(TRUSTED_OWNERS_VARIABLE, name)
    require_refused(fleet, repr(name))


def test_sudo_trusts_nobody_but_tells_how(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give(fleet, user=NOBODY)
    monkeypatch.setenv("SUDO_UID", str(NOBODY))
    assert f"sudo {TRUSTED_OWNERS_VARIABLE}=nobody fleetpatch" in require_refused(fleet, "belongs to nobody").hint


Row = TypeVar("Row", pwd.struct_passwd, grp.struct_group)


class Directory:
    """Users and groups as a test wants them, in place of the system's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.users: list[pwd.struct_passwd] = []
        self.groups: list[grp.struct_group] = []
        file_trust._find_members.cache_clear()
        monkeypatch.setattr(pwd, "getpwall", lambda: self.users)
        monkeypatch.setattr(pwd, "getpwnam", lambda name: self._find(self.users, 0, name))
        monkeypatch.setattr(pwd, "getpwuid", lambda number: self._find(self.users, 2, number))
        monkeypatch.setattr(grp, "getgrnam", lambda name: self._find(self.groups, 0, name))
        monkeypatch.setattr(grp, "getgrgid", lambda number: self._find(self.groups, 2, number))

    @staticmethod
    def _find(rows: Sequence[Row], column: int, value: object) -> Row:
        for row in rows:
            if row[column] == value:
                return row
        raise KeyError(value)

    def add_user(self, name: str, number: int, group: int) -> None:
        self.users.append(pwd.struct_passwd((name, "x", number, group, "", "/", "/bin/sh")))

    def add_group(self, name: str, number: int, *members: str) -> None:
        self.groups.append(grp.struct_group((name, "x", number, list(members))))


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Directory]:
    yield Directory(monkeypatch)
    file_trust._find_members.cache_clear()


def test_the_private_group_of_a_trusted_user_may_write(
    fleet: Path, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.add_user("alice", 1000, 1000)
    directory.add_group("alice", 1000)
    monkeypatch.setenv(TRUSTED_OWNERS_VARIABLE, "alice")
    give(fleet, user=1000, group=1000)
    fleet.chmod(0o664)
    require_trusted_path(fleet)

    monkeypatch.delenv(TRUSTED_OWNERS_VARIABLE)
    give(fleet, user=0)
    require_refused(fleet, "the group alice can write")


@pytest.mark.parametrize("who", ["another main group", "a further member", "an unknown member", "another name"])
def test_a_group_with_others_in_it_may_not_write(
    fleet: Path, directory: Directory, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    directory.add_user("alice", 1000, 1000)
    directory.add_user("bob", 1001, 1000 if who == "another main group" else 1001)
    members = {"a further member": ["bob"], "an unknown member": ["eve"]}.get(who, [])
    directory.add_group("staff" if who == "another name" else "alice", 1000, *members)
    monkeypatch.setenv(TRUSTED_OWNERS_VARIABLE, "alice")
    give(fleet, user=1000, group=1000)
    fleet.chmod(0o664)
    require_refused(fleet, "can write to it (mode 0664)")


def test_a_named_group_trusts_its_members_and_their_files(
    fleet: Path, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.add_user("alice", 1000, 1000)
    directory.add_group("ops", 2000, "alice")
    give(fleet.parent, group=2000)
    fleet.parent.chmod(0o2775)
    give(fleet, user=1000, group=2000)
    fleet.chmod(0o664)
    require_refused(fleet, "belongs to alice")
    monkeypatch.setenv(TRUSTED_OWNERS_VARIABLE, "%ops")
    require_trusted_path(fleet)


def try_mounted_read_only(source: Path, place: Path) -> str:
    """Mount a folder read-only, as ProtectSystem=strict and containers do. Return why its fleet is refused, or ""."""
    program = (
        "import sys; from pathlib import Path; from inventory.errors import FleetpatchError\n"
        "from inventory.files.file_trust import require_trusted_path\n"
        "try: require_trusted_path(Path(sys.argv[1]))\n"
        "except FleetpatchError as error: print(error.message)"
    )
    mount = 'mount --bind "$1" "$2" && mount -o remount,ro,bind "$2" && ! touch "$2/x"'
    script = f'{mount} && exec "$3" -c "$4" "$2/fleet.yaml"'
    words = ["unshare", "--mount", "sh", "-c", script, "sh", str(source), str(place), sys.executable, program]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_folder_that_is_read_only_for_this_process_alone_counts_unless_kubernetes_made_it(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount")
    configmap, place = tmp_path / "volumes/kubernetes.io~configmap/fleet", tmp_path / "place"
    configmap.mkdir(parents=True)
    place.mkdir()
    (configmap / "fleet.yaml").write_text(FLEET)
    configmap.chmod(0o777)
    assert try_mounted_read_only(configmap, place) == ""
    ordinary = configmap.rename(tmp_path / "ordinary")
    assert try_mounted_read_only(ordinary, place) == f"everybody can write to its folder {place} (mode 0777)"
    assert try_mounted_read_only(ordinary, ordinary) == f"everybody can write to its folder {ordinary} (mode 0777)"


def test_the_user_who_called_sudo_is_told_to_leave_it_out_in_their_own_folder(
    fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(fleet.parent, NOBODY, NOBODY)
    monkeypatch.setenv("SUDO_UID", str(NOBODY))
    monkeypatch.chdir(fleet.parent)
    for check in (lambda: require_trusted_path(fleet), require_trusted_settings):
        with pytest.raises(UntrustedFile) as caught:
            check()
        assert caught.value.hint.startswith("Run fleetpatch without sudo, or so: sudo FLEETPATCH_TRUSTED_OWNERS=nobody")
        assert "chown" not in caught.value.hint
