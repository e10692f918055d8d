"""The jump hosts in Ansible's ansible_ssh_common_args: `-J`, `-o ProxyJump=`, and the simple forms of ProxyCommand."""

import re
import shlex
from dataclasses import dataclass

_SPEC = re.compile(r"(?:ssh://)?(?:(?P<user>[^@\s]+)@)?(?P<host>\[[^\]]+\]|[^:@\s\[\]]+)(?::(?P<port>[0-9]+))?/?")
_FORWARD = frozenset({"%h:%p", "[%h]:%p"})
_FLAGS = re.compile(r"-[aACkKqTvx46]+")
_TAKES_VALUE = frozenset("BbcDEeFIiLlmOopQRSWw")


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
    """What arguments say: jump hosts, nearest to the controller first, and what fleetpatch has no use for."""

    jumps: tuple[JumpSpec, ...]
    unused: tuple[str, ...]


def parse_ssh_args(text: str) -> SshArgs:
    """Read arguments for ssh.

    Raises:
        UnknownProxy: they can't be split, or name a proxy in a form that is not known.
    """
    jumps: tuple[JumpSpec, ...] = ()
    unused: list[str] = []
    for flag, value in _options(_split(text)):
        if flag == "J":
            jumps = _jump_list(value)
        elif flag == "o":
            name, _, given = re.sub(r"^(\w+)(\s*=\s*|\s+)", r"\1=", value).partition("=")
            if name.lower() == "proxyjump":
                jumps = _jump_list(given)
            elif name.lower() == "proxycommand":
                jumps = _proxy_command(given)
            else:
                unused.append(f"-o {name}")
        else:
            unused.append(f"-{flag}" if flag else value)
    return SshArgs(jumps, tuple(unused))


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
        elif word[1] not in _TAKES_VALUE | {"J"}:
            found.append((word[1:], ""))
        else:
            found.append((word[1], word[2:] or (ahead.pop() if ahead else "")))
    return found


def _jump_list(text: str) -> tuple[JumpSpec, ...]:
    text = text.strip().strip("\"'")
    return () if text.lower() == "none" else tuple(_spec(part.strip()) for part in text.split(","))


def _spec(text: str) -> JumpSpec:
    match = _SPEC.fullmatch(text)
    if match is None:
        raise UnknownProxy(f"{text!r} is no jump host")
    return JumpSpec(match["host"].strip("[]"), match["user"], int(match["port"]) if match["port"] else None)


def _proxy_command(text: str) -> tuple[JumpSpec, ...]:
    """Read ``ssh -W %h:%p [-q] [-p PORT] [-l USER] [-J ...] [user@]host``, in any order."""
    words = _split(text)
    if text.strip().lower() == "none":
        return ()
    if not words or words[0].rpartition("/")[2] != "ssh":
        raise UnknownProxy("this ProxyCommand is no `ssh -W %h:%p HOST`")
    hosts = [value for flag, value in _options(words[1:]) if not flag]
    given = {flag: value for flag, value in _options(words[1:]) if flag in {"W", "p", "l", "J"}}
    for flag, _ in _options(words[1:]):
        if flag and flag not in {*given, "o"} and not _FLAGS.fullmatch(f"-{flag}"):
            raise UnknownProxy(f"this ProxyCommand uses -{flag}, which a jump host can't be told here")
    if given.get("W") not in _FORWARD or len(hosts) != 1 or not given.get("p", "1").isdecimal():
        raise UnknownProxy("this ProxyCommand is no `ssh -W %h:%p HOST`")
    before = _jump_list(given["J"]) if "J" in given else ()
    last = _spec(hosts[0])
    port = last.port or (int(given["p"]) if "p" in given else None)
    return (*before, JumpSpec(last.host, last.user or given.get("l"), port))
