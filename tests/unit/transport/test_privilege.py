"""Becoming root: the order of the ways, a wrong password that is tried once, and secrets that nobody sees."""

import json
import shutil
import subprocess

import pytest

from inventory.credentials import Credential, CredentialKind, Secret
from inventory.machine import PrivilegeMethod
from tasks.domain.errors import PrivilegeError, ProtocolViolation
from tasks.domain.protocols.clock import Deadline
from tasks.machines.transport.posix_shell import (
    DOAS_COMMAND,
    NO_ESCALATION,
    SHELL_COMMAND,
    SUDO_COMMAND,
    SUDO_PASSWORD_COMMAND,
    SUDO_VALIDATE_COMMAND,
    PrivilegeEscalator,
    build_terminal_command,
)
from tests.support.fake_clock import FakeClock

SOON = Deadline.after(FakeClock(), 30)
LOGIN = {"kind": "privilege", "uid": 1000, "user": "patch", "sudo": "no", "doas": "absent", "sudo_said": "no way"}


class ScriptedLine:
    """A line that answers the probe, and knows a password."""

    is_open = True

    def __init__(self, answer: object, password: str = "", says: str = "Sorry, try again.") -> None:
        self.says = says
        self.answer = answer
        self.password = password
        self.asked: list[tuple[tuple[str, ...], bytes]] = []

    def execute(self, command, stdin, decoder, *, deadline):
        self.asked.append((tuple(command), stdin))
        if tuple(command) in {SUDO_VALIDATE_COMMAND, build_terminal_command(SUDO_VALIDATE_COMMAND)}:
            decoder.feed_stderr(f"echo of {stdin.decode()}{self.says}\n".encode())
            return 0 if stdin == f"{self.password}\n".encode() else 1
        mark = stdin.split(b"fp_mark=")[1].split()[0]
        decoder.feed_stdout(mark + b"= " + json.dumps(self.answer).encode() + b"\n" + mark + b"! 0\n")
        return None

    def execute_in_shell(self, command, opening, script_input, decoder, *, deadline):
        raise AssertionError("to find a way needs no shell that is kept")

    def close(self) -> None:
        raise AssertionError("nobody closes a line that works")


def typed(password: str) -> Credential:
    return Credential(CredentialKind.PASSWORD, secret=Secret(password))


def find(method: PrivilegeMethod, password: str | None = None, **answer: object):
    line = ScriptedLine({**LOGIN, **answer}, password="right")
    asked = (lambda: typed(password)) if password is not None else None
    return PrivilegeEscalator(method, read_password=asked).find_escalation(line, deadline=SOON), line


@pytest.mark.parametrize(
    ("method", "answer", "words"),
    [
        (PrivilegeMethod.AUTO, {"uid": 0}, SHELL_COMMAND),
        (PrivilegeMethod.ROOT, {"uid": 0}, SHELL_COMMAND),
        (PrivilegeMethod.AUTO, {"sudo": "yes", "doas": "yes"}, SUDO_COMMAND),
        (PrivilegeMethod.SUDO, {"sudo": "yes"}, SUDO_COMMAND),
        (PrivilegeMethod.AUTO, {"sudo": "absent", "doas": "yes"}, DOAS_COMMAND),
        (PrivilegeMethod.DOAS, {"sudo": "yes", "doas": "yes"}, DOAS_COMMAND),
    ],
)
def test_the_first_way_that_works_is_taken(method, answer, words):
    way, _ = find(method, **answer)
    assert way.command == words
    assert way.stdin_prefix == b""


def test_without_privileges_nothing_is_asked():
    line = ScriptedLine(LOGIN)
    assert PrivilegeEscalator(PrivilegeMethod.NONE).find_escalation(line, deadline=SOON) is NO_ESCALATION
    assert line.asked == []


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (PrivilegeMethod.AUTO, {}),
        (PrivilegeMethod.ROOT, {"sudo": "yes"}),
        (PrivilegeMethod.SUDO, {"doas": "yes"}),
        (PrivilegeMethod.DOAS, {"sudo": "no", "doas": "no"}),
    ],
)
def test_a_login_without_a_way_is_told_the_line_that_sudoers_lacks(method, answer):
    with pytest.raises(PrivilegeError, match="patch") as caught:
        find(method, **answer)
    assert "patch ALL=(root) NOPASSWD: ALL" in caught.value.hint


def test_a_sudo_that_wants_a_terminal_gets_one_and_its_pipes_stay() -> None:
    way, _ = find(PrivilegeMethod.AUTO, sudo="yes", terminal=True)
    assert (way.command, way.program) == (build_terminal_command(SUDO_COMMAND), "sudo")
    way, line = find(PrivilegeMethod.AUTO, "right", terminal=True)
    assert (way.command, way.stdin_prefix) == (build_terminal_command(SUDO_PASSWORD_COMMAND), b"right\n")
    assert line.asked[1] == (build_terminal_command(SUDO_VALIDATE_COMMAND), b"right\n")


@pytest.mark.skipif(shutil.which("script") is None, reason="there is no `script` here")
def test_what_runs_on_a_terminal_keeps_its_pipes_and_its_exit_code() -> None:
    told = b"{ test -t 0 && echo echoed; : </dev/tty && echo terminal; echo apart >&2; exit 7; }\n"
    done = subprocess.run(
        build_terminal_command(SHELL_COMMAND), input=told, capture_output=True, check=False, timeout=120
    )
    assert (done.stdout, done.stderr, done.returncode) == (b"terminal\n", b"apart\n", 7)
    control = b"\x03\x04\x1a\r\n" + bytes(range(256)) * 1000  # a terminal would act upon some of these
    back = subprocess.run(build_terminal_command(("cat",)), input=control, capture_output=True, check=True, timeout=120)
    assert back.stdout == control


def test_without_a_way_to_a_terminal_the_remedy_is_the_line_about_terminals() -> None:
    with pytest.raises(PrivilegeError) as caught:
        find(PrivilegeMethod.AUTO, sudo_said="sudo: sorry, you must have a tty to run sudo")
    assert "Defaults:patch !requiretty" in caught.value.hint
    assert "NOPASSWD" not in caught.value.hint


def test_the_right_password_goes_before_the_script_and_is_asked_for_only_when_needed():
    way, line = find(PrivilegeMethod.AUTO, "right")
    assert (way.command, way.stdin_prefix) == (SUDO_PASSWORD_COMMAND, b"right\n")
    assert "right" not in repr(way)
    assert line.asked[1] == (SUDO_VALIDATE_COMMAND, b"right\n")
    way, line = find(PrivilegeMethod.AUTO, "right", sudo="yes")
    assert (way.command, way.stdin_prefix) == (SUDO_COMMAND, b"")
    assert len(line.asked) == 1


def test_a_wrong_password_is_tried_once_alone_and_never_shown():
    line = ScriptedLine(LOGIN, password="right")
    privilege = PrivilegeEscalator(PrivilegeMethod.AUTO, read_password=lambda: typed("wrong-one"))
    for _ in range(3):
        with pytest.raises(PrivilegeError, match="refused the password of patch") as caught:
            privilege.find_escalation(line, deadline=SOON)
        assert "wrong-one" not in f"{caught.value} {caught.value.hint}"
    assert [words for words, _ in line.asked] == [SHELL_COMMAND, SUDO_VALIDATE_COMMAND]
    assert line.asked[1][1] == b"wrong-one\n"


def test_what_was_found_is_remembered():
    line = ScriptedLine({**LOGIN, "sudo": "yes"})
    privilege = PrivilegeEscalator(PrivilegeMethod.AUTO)
    assert privilege.find_escalation(line, deadline=SOON) is privilege.find_escalation(line, deadline=SOON)
    assert len(line.asked) == 1


@pytest.mark.parametrize("answer", [{"kind": "other"}, {"kind": "privilege", "uid": "many"}])
def test_an_answer_without_sense_is_a_violation(answer):
    with pytest.raises(ProtocolViolation, match="privilege"):
        PrivilegeEscalator(PrivilegeMethod.AUTO).find_escalation(ScriptedLine(answer), deadline=SOON)


@pytest.mark.parametrize(("password", "is_asked_again"), [(None, True), ("wrong", False)])
def test_what_is_forgotten_is_found_anew_but_the_refusal_of_a_password_stays(password, is_asked_again) -> None:
    line = ScriptedLine({**LOGIN, "sudo": "yes"}, password="right")
    asked = (lambda: typed(password)) if password is not None else None
    escalator = PrivilegeEscalator(PrivilegeMethod.AUTO, read_password=asked)
    assert escalator.find_escalation(line, deadline=SOON).command == SUDO_COMMAND
    line.answer = LOGIN  # an update has removed the rule of sudo
    assert escalator.find_escalation(line, deadline=SOON).command == SUDO_COMMAND
    escalator.forget()
    with pytest.raises(PrivilegeError):
        escalator.find_escalation(line, deadline=SOON)
    count = len(line.asked)
    escalator.forget()
    with pytest.raises(PrivilegeError):
        escalator.find_escalation(line, deadline=SOON)
    assert (len(line.asked) > count) is is_asked_again
