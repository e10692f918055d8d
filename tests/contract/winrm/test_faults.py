"""WinRM to a Windows host on loopback: broken connections, faults, quotas, deadlines and hostile output."""

import socket
import threading
from dataclasses import replace
from unittest.mock import Mock

import pytest

from inventory.machine import Machine, TransportKind, WinrmScheme, WinrmSettings
from tasks.domain.errors import (
    AuthenticationFailed,
    ConnectionLost,
    DeadlineExceeded,
    PrivilegeError,
    ProtocolViolation,
    TransportError,
    Unreachable,
)
from tasks.machines.transport import output_decoder
from tasks.machines.transport.lockout_guard import LockoutGuard
from tasks.machines.transport.tcp_connection import ConnectionDropped, open_tcp_connection
from tasks.machines.transport.winrm import login as winrm_login
from tasks.machines.transport.winrm import messages as winrm_messages
from tests.contract.winrm.subjects import (
    BASIC,
    CLOCK,
    NTLM,
    ask,
    machine,
    session,
    soon,
    values,
)
from tests.lab.windows.fault_schedule import Fault, What
from tests.lab.windows.noise import QUIET


@pytest.mark.parametrize(("was_reached", "attempts"), [(False, 1), (True, 3)])
def test_a_port_that_is_refused_is_told_at_once_unless_the_machine_was_reached_before(
    host, monkeypatch, was_reached, attempts
):
    """Later in a run, WinRM may restart."""
    with session(machine(host), host.password) as it:
        if was_reached:
            it.run_script(ask("say"), deadline=soon())
            it.close()
        host.power_off()
        probe = Mock(side_effect=open_tcp_connection)
        monkeypatch.setattr(winrm_login, "open_tcp_connection", probe)
        with pytest.raises(Unreachable, match="refuses connections"):
            it.run_script(ask("say"), deadline=soon())
        assert probe.call_count == attempts


def test_a_machine_that_was_never_reached_is_tried_again_if_it_resets_connections(host, monkeypatch):
    probe = Mock(side_effect=[ConnectionDropped("reset", ""), Mock()])
    monkeypatch.setattr(winrm_login, "open_tcp_connection", probe)
    with session(machine(host), host.password) as it:
        assert it.run_script(ask("say"), deadline=soon()).exit_code == 0
    assert probe.call_count == 2


@pytest.mark.parametrize("scheme", WinrmScheme)
def test_a_port_that_stays_silent_is_waited_for_once(monkeypatch, scheme):
    monkeypatch.setattr(winrm_login, "LOGIN_TIMEOUT_SECONDS", 2.0)
    monkeypatch.setattr(winrm_messages, "CONNECT_TIMEOUT_SECONDS", 2.0)
    probe = Mock(side_effect=open_tcp_connection)
    monkeypatch.setattr(winrm_login, "open_tcp_connection", probe)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one = Machine("m", "127.0.0.1", silent.getsockname()[1], TransportKind.WINRM, user="u", credential="env:X")
        with pytest.raises(Unreachable, match="accepts the connection, and gives no answer within 2 s") as caught:
            session(replace(one, winrm=WinrmSettings(scheme)), "pw").run_script(ask("say"), deadline=soon())
    assert probe.call_count == 1
    assert caught.value.hint


def test_a_name_that_does_not_exist_is_told(host):
    one = machine(host)
    object.__setattr__(one, "address", "no-such-host.invalid")
    with pytest.raises(Unreachable, match="can't be resolved"):
        session(one, host.password).run_script(ask("say"), deadline=soon())


@pytest.mark.parametrize("what", [What.EMPTY_500, What.GARBAGE, What.UNAVAILABLE, What.BAD_XML])
@pytest.mark.parametrize("https", [True, False])
def test_something_else_at_the_port_is_unreachable(host, what, https):
    host.add_faults([Fault("any", what, times=100)])
    with pytest.raises(TransportError) as caught:
        session(machine(host, https=https), host.password).run_script(ask("say"), deadline=soon())
    assert caught.value.hint
    assert host.accounts.wrong_passwords == 0


def test_a_redirect_is_not_followed(host):
    host.add_faults([Fault("any", What.REDIRECT, times=100)])
    with pytest.raises(TransportError):
        session(machine(host, BASIC), host.password).run_script(ask("say"), deadline=soon())


# ---- what breaks


@pytest.mark.parametrize("https", [True, False])
@pytest.mark.parametrize("what", [What.RESET, What.CLOSE, What.CUT, What.UNAUTHORISED, What.EMPTY_500, What.BAD_XML])
@pytest.mark.parametrize("at", ["Command", "Send", "Receive", "Signal"])
def test_a_connection_that_breaks_anywhere_loses_and_doubles_nothing(host, table, https, what, at):
    with session(machine(host, https=https), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.add_faults([Fault(at, what)])
        script = ask("count 50", read_only=True)
        assert values(it.run_script(script, deadline=soon())) == list(range(50))
        assert values(it.run_script(script, deadline=soon())) == list(range(50))
    assert host.accounts.wrong_passwords == 0
    assert len(host.schedule.met()) == 1


@pytest.mark.parametrize("at", ["Command", "Send", "Receive"])
@pytest.mark.parametrize("acts", [False, True])
@pytest.mark.parametrize("has_ended", [False, True])
def test_a_script_that_changes_something_runs_once_though_the_connection_breaks(host, table, at, acts, has_ended):
    with session(machine(host, https=False), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.shells.noise = QUIET  # an answer that is lost is of the script, not of PowerShell's progress
        host.add_faults([Fault(at, What.RESET, acts=acts)])
        gate = table.gate("g")
        if has_ended:  # the answer that is lost may have told the end, too
            gate.set()
        else:
            threading.Timer(0.3, gate.set).start()
        script = ask("wait g", read_only=False)
        if (at, acts) == ("Receive", True):
            # the part of the answer that was on its way is gone, and it is told so, instead of a shorter answer
            with pytest.raises(ConnectionLost, match="a part of the machine's answer was lost"):
                it.run_script(script, deadline=soon())
        else:
            assert it.run_script(script, deadline=soon()).records == ({"kind": "begun"},)
    assert table.runs.count("wait g") == 1


@pytest.mark.parametrize("https", [True, False])
def test_an_idle_connection_that_the_machine_closed_is_replaced(host, https):
    with session(machine(host, https=https), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.drop_connections(reset=False)
        assert it.run_script(ask("say", x="1"), deadline=soon()).records == ({"kind": "said", "x": "1"},)
    assert [login.outcome for login in host.accounts.logins] == ["ok", "ok"]


def test_a_lost_shell_is_replaced_before_anything_ran_in_it(host, table):
    with session(machine(host), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.add_faults([Fault("Command", What.SHELL_LOST)])
        it.run_script(ask("count 1", read_only=False), deadline=soon())
    assert table.runs == ["say", "count 1"]


def test_a_reboot_in_the_middle_is_a_lost_connection_for_a_script_that_changes_something(host, table):
    with session(machine(host), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.add_faults([Fault("Receive", What.REBOOT)])
        with pytest.raises(ConnectionLost, match="shell on the machine is gone"):
            it.run_script(ask("wait g", read_only=False), deadline=soon())
        assert it.run_script(ask("say"), deadline=soon()).exit_code == 0
    assert host.boots == 2


def test_a_command_that_may_run_on_a_machine_that_is_gone_is_no_refused_one(host, table):
    """An order that was refused was not carried out; here nobody knows."""
    with session(machine(host), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.add_faults([Fault("Receive", What.POWER_LOSS)])
        with pytest.raises(ConnectionLost, match="another one can't be opened"):
            it.run_script(ask("wait g", read_only=False), deadline=soon())
        with pytest.raises(Unreachable):
            it.run_script(ask("wait g", read_only=False), deadline=soon())


def test_a_password_that_was_changed_meanwhile_does_not_make_a_running_command_a_refused_one(host, table):
    with session(machine(host), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.accounts.change_password(host.user, "another")
        host.add_faults([Fault("Receive", What.RESET)])
        with pytest.raises(ConnectionLost, match="refused the login"):
            it.run_script(ask("wait g", read_only=False), deadline=soon())
    assert table.runs.count("wait g") == 1
    assert host.accounts.wrong_passwords == 1


@pytest.mark.parametrize("how", [NTLM, BASIC])
def test_a_machine_that_asks_for_the_login_again_is_sent_a_wrong_password_once(host, how):
    with session(machine(host, how), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.accounts.change_password(host.user, "another")
        host.add_faults([Fault("Command", What.UNAUTHORISED)] if how is NTLM else [])
        with pytest.raises(AuthenticationFailed):
            it.run_script(ask("say"), deadline=soon())
    # basic proves the password with each message: one of the connection that was logged in, one of another one
    assert host.accounts.wrong_passwords == (1 if how is NTLM else 2)


@pytest.mark.parametrize(
    "what", [What.QUOTA_OPERATIONS, What.QUOTA_OPERATIONS_WMI, What.STALE_PROFILE, What.QUOTA_SHELLS]
)
def test_a_full_quota_is_waited_for(host, table, what, monkeypatch):
    monkeypatch.setattr("tasks.machines.transport.winrm.channel.QUOTA_PAUSE_SECONDS", 0.01)
    with session(machine(host), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.add_faults([Fault("Command", what)])
        it.run_script(ask("count 1", read_only=False), deadline=soon())
    assert table.runs == ["say", "count 1"]


@pytest.mark.parametrize(("what", "error"), [(What.QUOTA_SHELLS, ConnectionLost), (What.ACCESS_DENIED, PrivilegeError)])
def test_a_shell_that_is_not_opened_is_told_with_its_remedy(host, what, error):
    host.add_faults([Fault("Create", what, times=100)])
    with pytest.raises(error) as caught:
        session(machine(host), host.password).run_script(ask("say", read_only=False), deadline=soon())
    assert "winrs" in caught.value.hint or "Administrators" in caught.value.hint
    assert {login.outcome for login in host.accounts.logins} == {"ok"}


@pytest.mark.parametrize("https", [True, False])
def test_an_answer_of_another_request_or_with_a_wrong_seal_is_not_taken(host, https):
    with session(machine(host, https=https), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.add_faults([Fault("Receive", What.OTHER_ANSWER), Fault("Receive", What.BAD_SEAL, nth=3)])
        result = it.run_script(ask("count 3"), deadline=soon())
    assert values(result) == [0, 1, 2]
    assert "not yours" not in result.unframed_output


def test_an_answer_in_the_clear_is_not_taken_over_http(host):
    with session(machine(host, https=False), host.password) as it:
        it.run_script(ask("say"), deadline=soon())
        host.add_faults([Fault("any", What.GARBAGE, times=1000)])
        with pytest.raises(TransportError):
            it.run_script(ask("say"), deadline=soon())


def test_what_ends_without_reading_its_input_says_why(host, table):
    table.denied = True
    host.add_faults([Fault("Send", What.PIPE_CLOSED)])
    with (
        session(machine(host), host.password) as it,
        pytest.raises(ProtocolViolation, match="Access is denied"),
    ):
        it.run_script(ask("say", read_only=False), deadline=soon())


def test_input_that_is_refused_and_no_output_is_the_fault(host, table, monkeypatch):
    monkeypatch.setattr("tasks.machines.transport.winrm.messages.OPERATION_SECONDS", 1)
    host.add_faults([Fault("Send", What.PIPE_CLOSED)])
    with session(machine(host), host.password) as it:
        with pytest.raises(TransportError, match="The pipe is being closed"):
            it.run_script(ask("say"), deadline=soon())
        assert it.run_script(ask("say"), deadline=soon()).exit_code == 0


def test_input_that_a_busy_machine_reads_late_is_read_once(host, table, monkeypatch):
    monkeypatch.setattr("tasks.machines.transport.winrm.messages.OPERATION_SECONDS", 1)
    host.add_faults([Fault("Send", What.TIMED_OUT, acts=True), Fault("Receive", What.TIMED_OUT, times=2)])
    with session(machine(host), host.password) as it:
        assert it.run_script(ask("count 1", read_only=False), deadline=soon()).exit_code == 0
    assert table.runs == ["count 1"]


@pytest.mark.parametrize("at", ["Create", "Command"])
def test_a_machine_that_is_too_busy_to_begin_is_told_so(host, at):
    host.add_faults([Fault(at, What.TIMED_OUT)])
    with pytest.raises(DeadlineExceeded, match="did not carry out the request in time"):
        session(machine(host), host.password).run_script(ask("say"), deadline=soon())


# ---- deadlines and hostile output


@pytest.mark.parametrize("what", [What.HANG, What.SLOW])
@pytest.mark.parametrize("at", ["Create", "Command", "Send", "Receive"])
def test_a_machine_that_hangs_costs_no_more_than_the_deadline(host, what, at):
    host.add_faults([Fault(at, what, times=100, seconds=600.0)])
    began = CLOCK.now()
    with pytest.raises(DeadlineExceeded) as caught:
        session(machine(host), host.password).run_script(ask("say"), deadline=soon(1.0))
    assert (CLOCK.now() - began).total_seconds() < 120
    assert caught.value.machine == "WIN1"


def test_what_runs_longer_than_the_deadline_is_left_running(host, table):
    it = session(machine(host), host.password)
    it.run_script(ask("say"), deadline=soon())  # a login and a shell may take longer than the deadline
    with pytest.raises(DeadlineExceeded):
        it.run_script(ask("wait g", read_only=False), deadline=soon(3.0))
    it.close()
    (shell,) = host.shells.open
    assert shell.busy
    assert it.run_script(ask("say"), deadline=soon()).exit_code == 0
    table.gate("g").set()


def test_what_only_reads_is_ended_by_the_next_connection(host, table):
    it = session(machine(host), host.password)
    it.run_script(ask("say"), deadline=soon())  # a login and a shell may take longer than the deadline
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            it.run_script(ask("wait g"), deadline=soon(2.0))
        assert len(host.shells.open) == 1
    assert it.run_script(ask("say"), deadline=soon()).exit_code == 0
    assert len(host.shells.open) == 1
    it.close()
    assert host.shells.open == []


def test_many_commands_need_several_shells(host, table, monkeypatch):
    monkeypatch.setattr("tasks.machines.transport.winrm.channel.MAX_COMMANDS_IN_SHELL", 2)
    shells: list[object] = []
    with session(machine(host), host.password) as it:
        for _ in range(5):
            it.run_script(ask("say"), deadline=soon())
            (shell,) = host.shells.open
            shells += [shell] if shell not in shells else []
    assert len(shells) == 3
    assert len(host.accounts.logins) == 1


def test_a_passed_deadline_asks_nothing(host):
    with pytest.raises(DeadlineExceeded):
        session(machine(host), host.password).run_script(ask("say"), deadline=soon(-1.0))
    assert host.connected == 0


def test_output_without_end_is_refused_in_bounded_memory(host, monkeypatch):
    monkeypatch.setattr(output_decoder, "MAX_UNFRAMED_BYTES", 4 * 1024 * 1024)
    with pytest.raises(ProtocolViolation, match="that are no answer"), session(machine(host), host.password) as it:
        it.run_script(ask("pour 6", read_only=False), deadline=soon(120))


def test_noise_beside_an_answer_is_kept_short(host):
    with session(machine(host), host.password) as it:
        result = it.run_script(ask("pour 4"), deadline=soon())
    assert result.exit_code == 0
    assert len(result.unframed_output) < 100_000
    assert "bytes left out]" in result.unframed_output  # all of it is one word: half a word may be half a secret


def test_a_powershell_that_ends_without_an_answer_is_told(host):
    with session(machine(host), host.password) as it, pytest.raises(ProtocolViolation, match="no end"):
        it.run_script(ask("crash"), deadline=soon())


# ---- many


def test_thirty_sessions_at_once(host, authority, tmp_path):
    guard = LockoutGuard()
    results: list[str] = []
    errors: list[Exception] = []

    def work(number: int) -> None:
        try:
            with session(machine(host, https=number % 2 == 0), host.password, guard=guard) as it:
                answers = (it.run_script(ask("say", n=str(number)), deadline=soon(300)) for _ in range(3))
                results.extend(str(answer.records[0]["n"]) for answer in answers)
        except Exception as error:  # noqa: BLE001  # it is the test's result
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(results) == sorted(str(number) for number in range(30) for _ in range(3))
