"""Parses jump hosts in ansible_ssh_common_args: `-J`, `-o ProxyJump=`, and the simple forms of ProxyCommand."""

import re
import shlex
from dataclasses import dataclass

_JUMP_HOST_PATTERN = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@\s]+)@)?(?P<host>\[[^\]]+\]|[^:@\s\[\]]+)(?::(?P<port>[0-9]{1,5}))?/?"
)
_PORT_PATTERN = re.compile(r"[0-9]{1,5}")
_FORWARD_TARGETS = frozenset({"%h:%p", "[%h]:%p"})
_HARMLESS_FLAGS = frozenset("aACkKqTvx46")
_FLAGS_WITH_VALUE = frozenset("BbcDEeFIiJLlmOoPpQRSWw")
_DESTINATION_FLAGS = frozenset("FlpW")
_DESTINATION_OPTIONS = frozenset({"hostname", "port", "user", "canonicalizehostname", "canonicaldomains", "include"})
"""Options that change the destination. ssh uses the first value, and Ansible's own options come later."""


class UnsupportedProxy(ValueError):
    """A proxy option that is not one of the supported simple forms."""


@dataclass(frozen=True, slots=True)
class JumpHostSpec:
    """A jump host in ssh's syntax: ``user@host:port``."""

    host: str
    user: str | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True)
class SshArguments:
    """Parsed ssh arguments.

    Attributes:
        jump_routes: lists of jump hosts, nearest to the controller first; an empty list means "none".
        destination_overrides: arguments that change the destination from the given address, port and user.
        unused: arguments that fleetpatch does not use.
    """

    jump_routes: tuple[tuple[JumpHostSpec, ...], ...]
    destination_overrides: tuple[str, ...]
    unused: tuple[str, ...]


def parse_ssh_arguments(text: str) -> SshArguments:
    """Parse ssh arguments.

    Raises:
        UnsupportedProxy: the arguments can't be split, or a proxy has an unsupported form.
    """
    jump_routes: list[tuple[JumpHostSpec, ...]] = []
    destination_overrides: list[str] = []
    unused: list[str] = []
    for flag, value in _parse_flags(_split_words(text)):
        name, option_value = _parse_option(value) if flag == "o" else ("", value)
        if flag == "J" or name == "proxyjump":
            jump_routes.append(_parse_jump_list(option_value))
        elif name == "proxycommand":
            jump_routes.append(_parse_proxy_command(option_value))
        elif name in _DESTINATION_OPTIONS:
            destination_overrides.append(f"-o {name}")
        elif flag in _DESTINATION_FLAGS or not flag:
            destination_overrides.append(f"-{flag}" if flag else "a word that is no option")
        else:
            unused.append(f"-o {value.partition('=')[0]}" if name else f"-{flag}")
    return SshArguments(tuple(jump_routes), tuple(destination_overrides), tuple(unused))


def _parse_option(text: str) -> tuple[str, str]:
    """Return the lower-case name and the value of an ``-o`` option."""
    name, _, option_value = re.sub(r"^\s*(\w+)(\s*=\s*|\s+)", r"\1=", text).partition("=")
    return name.lower(), option_value


def _split_words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UnsupportedProxy(f"they can't be split: {error}") from error


def _parse_flags(words: list[str]) -> list[tuple[str, str]]:
    """Pair options with their values. A word that is not an option has the flag ""."""
    flags: list[tuple[str, str]] = []
    ahead = list(reversed(words))
    while ahead:
        word = ahead.pop()
        if not word.startswith("-") or len(word) < 2:
            flags.append(("", word))
            continue
        for position, flag in enumerate(word[1:], start=2):
            if flag in _FLAGS_WITH_VALUE:
                flags.append((flag, word[position:] or (ahead.pop() if ahead else "")))
                break
            flags.append((flag, ""))
    return flags


def _parse_jump_list(text: str) -> tuple[JumpHostSpec, ...]:
    text = text.strip().strip("\"'")
    return () if text.lower() == "none" else tuple(_parse_jump_host(part.strip()) for part in text.split(","))


def _parse_jump_host(text: str) -> JumpHostSpec:
    match = _JUMP_HOST_PATTERN.fullmatch(text)
    if match is None:
        raise UnsupportedProxy(f"{text[:80]!r} is no jump host")
    return JumpHostSpec(match["host"].strip("[]"), match["user"], int(match["port"]) if match["port"] else None)


def _parse_proxy_command(text: str) -> tuple[JumpHostSpec, ...]:
    """Parse ``ssh -W %h:%p [-q] [-p PORT] [-l USER] [-J ...] [user@]host``, in any order."""
    parts = _split_words(text)
    if text.strip().lower() == "none":
        return ()
    if not parts or parts[0].rpartition("/")[2] != "ssh":
        raise UnsupportedProxy("this ProxyCommand is no `ssh -W %h:%p HOST`")
    options = _parse_flags(parts[1:])
    hosts = [value for flag, value in options if not flag]
    values_by_flag = {flag: value for flag, value in options if flag in {"W", "p", "l", "J"}}
    for flag, value in options:
        moves = flag == "o" and (
            _parse_option(value)[0] in _DESTINATION_OPTIONS or _parse_option(value)[0].startswith("proxy")
        )
        if moves or (flag and flag not in {*values_by_flag, "o", *_HARMLESS_FLAGS}):
            option_text = f"-o {_parse_option(value)[0]}" if moves else f"-{flag}"
            raise UnsupportedProxy(f"this ProxyCommand uses {option_text}, which a jump host can't be told here")
    if (
        values_by_flag.get("W") not in _FORWARD_TARGETS
        or len(hosts) != 1
        or not _PORT_PATTERN.fullmatch(values_by_flag.get("p", "1"))
    ):
        raise UnsupportedProxy("this ProxyCommand is no `ssh -W %h:%p HOST`")
    before = _parse_jump_list(values_by_flag["J"]) if "J" in values_by_flag else ()
    last = _parse_jump_host(hosts[0])
    users = {last.user, values_by_flag.get("l")} - {None}
    ports = {str(last.port) if last.port else None, values_by_flag.get("p")} - {None}
    if len(users) > 1 or len(ports) > 1:
        raise UnsupportedProxy("this ProxyCommand names two users, or two ports")
    port = last.port or (int(values_by_flag["p"]) if "p" in values_by_flag else None)
    return (*before, JumpHostSpec(last.host, last.user or values_by_flag.get("l"), port))
