"""The jump hosts in Ansible's ansible_ssh_common_args: `-J`, `-o ProxyJump=`, and the simple forms of ProxyCommand."""

import re
import shlex
from dataclasses import dataclass

_SPEC = re.compile(r"(?:ssh://)?(?:(?P<user>[^@\s]+)@)?(?P<host>\[[^\]]+\]|[^:@\s\[\]]+)(?::(?P<port>[0-9]{1,5}))?/?")
_PORT = re.compile(r"[0-9]{1,5}")
_FORWARD = frozenset({"%h:%p", "[%h]:%p"})
_FLAGS = frozenset("aACkKqTvx46")
_TAKES_VALUE = frozenset("BbcDEeFIiJLlmOoPpQRSWw")
_MOVE = frozenset("FlpW")
_MOVING_OPTIONS = frozenset({"hostname", "port", "user", "canonicalizehostname", "canonicaldomains", "include"})
"""Options that change where ssh goes: it takes the first that it is given, and Ansible's own come later."""


class UnknownProxy(ValueError):
    """A way through jump hosts that is not one of the simple forms."""


@dataclass(frozen=True, slots=True)
class JumpSpec:
    """A jump host as ssh takes it: ``user@host:port``."""

    host: str
    user: str | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True)
class SshArgs:
    """What arguments say.

    Attributes:
        ways: through jump hosts, each nearest to the controller first; an empty one is "none".
        moves: what leads elsewhere than address, port and user say.
        unused: what fleetpatch has no use for.
    """

    ways: tuple[tuple[JumpSpec, ...], ...]
    moves: tuple[str, ...]
    unused: tuple[str, ...]


def parse_ssh_args(text: str) -> SshArgs:
    """Read arguments for ssh.

    Raises:
        UnknownProxy: they can't be split, or name a proxy in a form that is not known.
    """
    ways: list[tuple[JumpSpec, ...]] = []
    moves: list[str] = []
    unused: list[str] = []
    for flag, value in _options(_split(text)):
        name, given = _option(value) if flag == "o" else ("", value)
        if flag == "J" or name == "proxyjump":
            ways.append(_jump_list(given))
        elif name == "proxycommand":
            ways.append(_proxy_command(given))
        elif name in _MOVING_OPTIONS:
            moves.append(f"-o {name}")
        elif flag in _MOVE or not flag:
            moves.append(f"-{flag}" if flag else "a word that is no option")
        else:
            unused.append(f"-o {value.partition('=')[0]}" if name else f"-{flag}")
    return SshArgs(tuple(ways), tuple(moves), tuple(unused))


def _option(text: str) -> tuple[str, str]:
    """Return the name, in small letters, and the value of what stands behind ``-o``."""
    name, _, given = re.sub(r"^\s*(\w+)(\s*=\s*|\s+)", r"\1=", text).partition("=")
    return name.lower(), given


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UnknownProxy(f"they can't be split: {error}") from error


def _options(words: list[str]) -> list[tuple[str, str]]:
    """Pair options with their values; a word that is no option has the flag ""."""
    found: list[tuple[str, str]] = []
    ahead = list(reversed(words))
    while ahead:
        word = ahead.pop()
        if not word.startswith("-") or len(word) < 2:
            found.append(("", word))
            continue
        for position, flag in enumerate(word[1:], start=2):
            if flag in _TAKES_VALUE:
                found.append((flag, word[position:] or (ahead.pop() if ahead else "")))
                break
            found.append((flag, ""))
    return found


def _jump_list(text: str) -> tuple[JumpSpec, ...]:
    text = text.strip().strip("\"'")
    return () if text.lower() == "none" else tuple(_spec(part.strip()) for part in text.split(","))


def _spec(text: str) -> JumpSpec:
    match = _SPEC.fullmatch(text)
    if match is None:
        raise UnknownProxy(f"{text[:80]!r} is no jump host")
    return JumpSpec(match["host"].strip("[]"), match["user"], int(match["port"]) if match["port"] else None)


def _proxy_command(text: str) -> tuple[JumpSpec, ...]:
    """Read ``ssh -W %h:%p [-q] [-p PORT] [-l USER] [-J ...] [user@]host``, in any order."""
    words = _split(text)
    if text.strip().lower() == "none":
        return ()
    if not words or words[0].rpartition("/")[2] != "ssh":
        raise UnknownProxy("this ProxyCommand is no `ssh -W %h:%p HOST`")
    options = _options(words[1:])
    hosts = [value for flag, value in options if not flag]
    given = {flag: value for flag, value in options if flag in {"W", "p", "l", "J"}}
    for flag, value in options:
        moves = flag == "o" and (_option(value)[0] in _MOVING_OPTIONS or _option(value)[0].startswith("proxy"))
        if moves or (flag and flag not in {*given, "o", *_FLAGS}):
            what = f"-o {_option(value)[0]}" if moves else f"-{flag}"
            raise UnknownProxy(f"this ProxyCommand uses {what}, which a jump host can't be told here")
    if given.get("W") not in _FORWARD or len(hosts) != 1 or not _PORT.fullmatch(given.get("p", "1")):
        raise UnknownProxy("this ProxyCommand is no `ssh -W %h:%p HOST`")
    before = _jump_list(given["J"]) if "J" in given else ()
    last = _spec(hosts[0])
    users = {last.user, given.get("l")} - {None}
    ports = {str(last.port) if last.port else None, given.get("p")} - {None}
    if len(users) > 1 or len(ports) > 1:
        raise UnknownProxy("this ProxyCommand names two users, or two ports")
    port = last.port or (int(given["p"]) if "p" in given else None)
    return (*before, JumpSpec(last.host, last.user or given.get("l"), port))
