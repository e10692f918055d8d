"""Decides whether a file may decide what runs: nobody but its owner, the user or root can have written it.

The rules are those of sshd for a user's files (``safe_path`` in OpenSSH's misc.c): the file and each folder above it
belong to the user or to root, and neither group nor others can write to them. Where OpenSSH says nothing:

- A folder that everybody can write to is accepted with the sticky bit, as /tmp has it: there only the owner of an entry
  can replace it (unlink(2), EPERM), and the entry's owner is checked as well. File::Temp of Perl decides so.
- A group of which nobody but trusted users is a member may write, as distributions patch OpenSSH
  (``secure_permissions``): the umask of a user with a private group makes such files.
- A link's folders are checked, and so are those of its target.
- The mode of the folder of a ConfigMap of Kubernetes does not count: it is mounted read-only, and nobody but the node
  can write there. Another read-only mount says nothing about others: ProtectSystem=strict of systemd.exec(5) makes all
  mounts read-only, for one unit alone.

POSIX access lists need no look: their mask is what the mode shows as the group's rights.
"""

import errno
import functools
import grp
import os
import pwd
import shlex
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from inventory.data_class import dataclass
from inventory.errors import FleetpatchError

TRUSTED_OWNERS_VARIABLE: Final = "FLEETPATCH_TRUSTED_OWNERS"
"""Further owners that an administrator trusts: names or numbers of users, and ``%group``, separated by blanks."""
CALLER_HINT: Final = "Run fleetpatch without sudo"
_SUDO_USER_VARIABLE: Final = "SUDO_UID"
_CONFIG_MAPS: Final = "kubernetes.io~configmap"
"""The folder of ConfigMaps in the folder that the kubelet makes for each pod."""
_MAX_LINKS: Final = 40
"""As Linux: path_resolution(7)."""
_MEMBERS_SECONDS: Final = 60
"""How long the members of a group are remembered. An inventory may be of thousands of files."""


class UntrustedFile(FleetpatchError):
    """Somebody who is not trusted may have written a file. The message tells who, and begins with a small letter."""


@dataclass(frozen=True, slots=True)
class _Trust:
    """Whom this process trusts."""

    users: frozenset[int]
    groups: frozenset[int]  # ids of groups whose members are all trusted


def require_trusted(path: Path, descriptor: int) -> None:
    """Check who can have written an open file or folder.

    The path is walked from the root down: what is below a checked folder nobody else can exchange. The end of the walk
    must be what is open, so that nothing was exchanged between opening and checking.

    Args:
        path: its name, as it was opened.
        descriptor: the open file. A pipe without a name has an owner and no folders.

    Raises:
        UntrustedFile: somebody else may have written it. The hint has the command that mends it.
        OSError: a part of the path can't be read.
    """
    trust = _read_trust(os.environ.get(TRUSTED_OWNERS_VARIABLE, ""))
    opened = os.fstat(descriptor)
    _check(path, opened, trust, "it")
    last = opened
    try:
        for entry, last in _iterate_entries(path):
            _check(entry, last, trust, f"its folder {entry}" if stat.S_ISDIR(last.st_mode) else f"the link {entry}")
    except FileNotFoundError:
        # A pipe (``pipe:[number]`` in proc_pid_fd(5)) or a removed file is in no folder. A shell names such a file for
        # ``<(command)`` and ``<<EOF``: /dev/fd/63 leads to no name.
        if not Path(f"/proc/self/fd/{descriptor}").readlink().is_absolute() or os.fstat(descriptor).st_nlink == 0:
            return
        raise
    if (last.st_dev, last.st_ino) != (opened.st_dev, opened.st_ino):
        raise UntrustedFile("it was exchanged while it was opened", hint="Look who does that, and start again.")


def require_trusted_path(path: Path) -> None:
    """Check who can have written a file or a folder that is not open. It need not be readable.

    Raises:
        UntrustedFile: somebody else may have written it.
        OSError: it does not exist, or a part of the path can't be read.
    """
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        require_trusted(path, descriptor)
    finally:
        os.close(descriptor)


def require_trusted_folder(folder: Path) -> None:
    """Check who can make entries in a folder, now or later. A sticky bit doesn't help: it protects only what is there.

    Raises:
        UntrustedFile: somebody else can.
        OSError: it does not exist, or a part of the path can't be read.
    """
    require_trusted_path(folder)
    status = folder.stat()
    if status.st_mode & stat.S_ISVTX:
        _check_mode(folder, status, _read_trust(os.environ.get(TRUSTED_OWNERS_VARIABLE, "")), "it")


def _iterate_entries(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield folders, links and the file itself, from the root down, as the system resolves the path."""
    current_path, links = Path("/"), 0
    yield current_path, current_path.lstat()
    names = list(reversed(path.absolute().parts[1:]))
    while names:
        name = names.pop()
        if name == "..":
            current_path = current_path.parent  # no part of it is a link
            continue
        entry = current_path / name
        status = entry.lstat()
        yield entry, status
        if not stat.S_ISLNK(status.st_mode):
            current_path = entry
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = entry.readlink()
        current_path = Path("/") if target.is_absolute() else current_path
        names += reversed(target.parts[1:] if target.is_absolute() else target.parts)


def _check(entry: Path, status: os.stat_result, trust: _Trust, subject: str) -> None:
    if status.st_uid not in trust.users:
        raise UntrustedFile(
            f"{subject} belongs to {_name_user(status.st_uid)}, and fleetpatch runs as {_name_user(os.geteuid())}",
            hint=_build_owner_hint(entry, status.st_uid),
        )
    if stat.S_ISLNK(status.st_mode):  # the mode of a link means nothing
        return
    if not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    if stat.S_ISDIR(status.st_mode) and (status.st_mode & stat.S_ISVTX or _is_config_map(entry)):
        return
    _check_mode(entry, status, trust, subject)


def _check_mode(entry: Path, status: os.stat_result, trust: _Trust, subject: str) -> None:
    mode = f"(mode {stat.S_IMODE(status.st_mode):04o})"
    if status.st_mode & stat.S_IWOTH:
        raise UntrustedFile(
            f"everybody can write to {subject} {mode}", hint=f"Run: chmod go-w {shlex.quote(str(entry))}"
        )
    if status.st_mode & stat.S_IWGRP and not _is_trusted_group(status.st_gid, trust):
        try:
            group = grp.getgrgid(status.st_gid).gr_name
        except KeyError:
            group = str(status.st_gid)
        raise UntrustedFile(
            f"the group {group} can write to {subject} {mode}",
            hint=f"Run: chmod g-w {shlex.quote(str(entry))}. Or, where all members of that group may decide what runs, "
            f"set {TRUSTED_OWNERS_VARIABLE}=%{group} in fleetpatch's environment.",
        )


def _build_owner_hint(entry: Path, owner: int) -> str:
    name = _name_user(owner).removeprefix("uid ")
    if os.geteuid() == 0 and os.environ.get(_SUDO_USER_VARIABLE) == str(owner):
        # Only who may run every command may set a variable of a command that sudo starts: sudo(8), SETENV.
        return f"{CALLER_HINT}, or so: sudo {TRUSTED_OWNERS_VARIABLE}={name} fleetpatch …"
    command = f"chown {_name_user(os.geteuid()).removeprefix('uid ')} {shlex.quote(str(entry))}"
    hint = "Move the file to a folder of yours." if entry.is_dir() else f"If you know what it says, run: {command}."
    return f"{hint} Or, where that user may decide what runs, set {TRUSTED_OWNERS_VARIABLE}={name} in its environment."


def _is_config_map(folder: Path) -> bool:
    """Return whether a folder is mounted read-only from kubelet's folder of ConfigMaps, which is closed to others.

    The fields of the mount are those of proc_pid_mountinfo(5).
    """
    descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        mount = Path(f"/proc/self/fdinfo/{descriptor}").read_text().partition("mnt_id:")[2].split()[0]
    finally:
        os.close(descriptor)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        number, _, _, root, _, options, *_ = line.split()
        if number == mount:
            return _CONFIG_MAPS in Path(root).parts and "ro" in options.split(",")
    return False


def _read_trust(setting: str) -> _Trust:
    """Return whom this process trusts. Raise UntrustedFile if the setting names somebody who does not exist."""
    users, groups = {0, os.geteuid()}, set()
    for word in setting.split():
        try:
            if word.startswith("%"):
                group = grp.getgrnam(word[1:])
                groups.add(group.gr_gid)
                users |= _find_members(group.gr_gid, _now())
            else:
                users.add(int(word) if word.isdecimal() else pwd.getpwnam(word).pw_uid)
        except KeyError as error:
            raise UntrustedFile(
                f"{TRUSTED_OWNERS_VARIABLE} names {word!r}, whom this system does not know",
                hint="Write names or numbers of users, and %group, separated by blanks.",
            ) from error
    return _Trust(frozenset(users), frozenset(groups))


def _is_trusted_group(group: int, trust: _Trust) -> bool:
    """Return whether nobody but trusted users is a member of a group.

    A directory service may not list all users. So a group that was not named must have the name of a trusted user, as
    the private group of a user has, and be that user's main group.
    """
    if group in trust.groups:
        return True
    try:
        namesake = pwd.getpwnam(grp.getgrgid(group).gr_name)
        members = _find_members(group, _now())
    except KeyError:
        return False
    return namesake.pw_gid == group and namesake.pw_uid in trust.users and members <= trust.users


def _now() -> int:
    return int(time.monotonic()) // _MEMBERS_SECONDS


@functools.lru_cache(maxsize=64)
def _find_members(group: int, _when: int) -> frozenset[int]:
    """Return the ids of all users whose main group it is, and of its further members.

    Raises:
        KeyError: there is no such group, or a member of it is not known.
    """
    main = {user.pw_uid for user in pwd.getpwall() if user.pw_gid == group}
    return frozenset(main | {pwd.getpwnam(name).pw_uid for name in grp.getgrgid(group).gr_mem})


def _name_user(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"uid {user}"
