"""What is remembered of logins: no account is locked by us, and no machine keeps the fleet from being patched."""

import functools
import threading
from contextlib import AbstractContextManager, suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.credentials import Credential, CredentialKind, Secret
from inventory.machine import PrivilegeMethod
from tasks.domain.errors import AuthenticationFailed, DeadlineExceeded, PrivilegeError
from tasks.domain.protocols.clock import Deadline
from tasks.machines.transport.lockout_guard import (
    DOUBT_DELAY,
    LONG_DOUBT_DELAY,
    MAX_REFUSALS_AFTER_SUCCESS,
    MAX_REFUSALS_IN_DOUBT,
    MAX_REFUSALS_PROVEN,
    MAX_REFUSALS_UNPROVEN,
    REFUSAL_RETRY_DELAY,
    LockoutGuard,
    LoginAttempt,
)
from tasks.machines.transport.posix_shell import PrivilegeEscalator
from tests.support.fake_clock import FakeClock
from tests.unit.transport.test_privilege import LOGIN, SOON, ScriptedLine, typed

PASSWORD = Credential(CredentialKind.PASSWORD, secret=Secret("hunter2"))
KEY = Credential(CredentialKind.KEY)


class Run:
    """The logins of a run, and what was sent in it."""

    def __init__(self, credential: Credential = PASSWORD) -> None:
        self.clock = FakeClock()
        self.logins = LockoutGuard()
        self.credential = credential
        self.sent: list[tuple[str, str]] = []

    def log_in(self, machine: str, ends: str) -> bool:
        """Log in to a machine that takes the credential, refuses it or cuts the line; return whether it was sent."""
        with suppress(AuthenticationFailed):
            deadline = Deadline.after(self.clock, 5)
            with self.logins.open_attempt(
                machine, "ann", self.credential, clock=self.clock, deadline=deadline
            ) as attempt:
                self.sent.append((machine, ends))
                attempt.is_refused, attempt.is_interrupted = ends == "refuses", ends == "cuts"
                if ends != "takes":
                    raise AuthenticationFailed(ends)
        return bool(self.sent) and self.sent[-1] == (machine, ends)

    def count(self) -> int:
        return len(self.sent)


ENDS = ("takes", "refuses", "cuts")
EVENTS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(ENDS), st.booleans()), max_size=60)


@given(EVENTS)
def test_no_account_sees_more_refusals_in_a_row_than_is_said(events):
    run = Run()
    for machine, ends, later in events:
        if later:
            run.clock.sleep(REFUSAL_RETRY_DELAY.total_seconds())
        run.log_in(machine, ends)
    worked: set[str] = set()
    row: list[str] = []
    of_machine: dict[str, int] = {}
    for machine, ends in run.sent:
        if ends == "takes":
            worked.add(machine)
            row.clear()
            of_machine.pop(machine, None)
        elif ends == "refuses" or machine not in worked:
            of_machine[machine] = of_machine.get(machine, 0) + 1
            assert of_machine[machine] <= (MAX_REFUSALS_AFTER_SUCCESS if machine in worked else 1)
            if machine not in worked:
                row.append(machine)
                assert len(row) <= (MAX_REFUSALS_PROVEN if worked else MAX_REFUSALS_UNPROVEN) + len(worked)


@given(st.lists(st.sampled_from(ENDS), min_size=1, max_size=30))
def test_a_key_locks_nothing_and_no_machine_keeps_another_from_its_login(ends):
    run = Run(KEY)
    for number, end in enumerate(ends):
        assert run.log_in(f"m{number}", end)


def test_a_wrong_password_is_sent_to_two_machines_and_once_to_each():
    run = Run()
    for machine in "aabbccd":
        run.log_in(machine, "refuses")
    assert run.sent == [("a", "refuses"), ("b", "refuses")]


def test_machines_with_another_password_do_not_stop_those_with_this_one():
    run = Run()
    assert run.log_in("odd", "refuses")
    assert run.log_in("good", "takes")
    for number in range(MAX_REFUSALS_PROVEN):
        assert run.log_in(f"odd{number}", "refuses")
    assert not run.log_in("new", "takes")
    assert run.log_in("good", "takes")  # it took it before: it is asked again, and says that the password is right
    assert run.log_in("new", "takes")


def test_a_machine_that_took_it_may_refuse_for_a_moment_while_it_boots():
    run = Run()
    run.log_in("a", "takes")
    for _ in range(20):
        assert run.log_in("a", "cuts")
    for number in range(MAX_REFUSALS_AFTER_SUCCESS):
        assert run.log_in("a", "refuses"), number
        assert not run.log_in("a", "takes")
        run.clock.sleep(REFUSAL_RETRY_DELAY.total_seconds() + 1)
    assert not run.log_in("a", "takes")


def test_a_password_that_is_changed_during_the_run_locks_no_account_of_a_directory():
    """Each machine has accepted it, and each of them asks again and again."""
    run = Run()
    machines = [f"m{number}" for number in range(10)]
    for machine in machines:
        assert run.log_in(machine, "takes")
    while run.clock.now() - FakeClock().now() < LONG_DOUBT_DELAY:
        for machine in machines:
            run.log_in(machine, "refuses")
        run.clock.sleep(REFUSAL_RETRY_DELAY.total_seconds() + 1)
    assert run.count() - 10 == MAX_REFUSALS_IN_DOUBT
    run.clock.sleep(LONG_DOUBT_DELAY.total_seconds())
    assert run.log_in("m4", "refuses")
    assert not run.log_in("m5", "refuses")


def test_a_directory_that_is_down_while_two_machines_boot_delays_the_fleet_for_minutes_only():
    run = Run()
    for machine in "abc":
        assert run.log_in(machine, "takes")
    assert run.log_in("a", "refuses")
    assert run.log_in("b", "refuses")
    assert not run.log_in("c", "takes")
    run.clock.sleep(DOUBT_DELAY.total_seconds())
    assert run.log_in("c", "takes")
    assert run.log_in("a", "takes")
    assert run.log_in("b", "refuses")  # the count began again
    assert run.log_in("c", "takes")


def test_one_machine_whose_password_was_changed_keeps_no_other_waiting():
    run = Run()
    for machine in "abc":
        run.log_in(machine, "takes")
    for _ in range(MAX_REFUSALS_AFTER_SUCCESS):
        assert run.log_in("a", "refuses")
        run.clock.sleep(REFUSAL_RETRY_DELAY.total_seconds() + 1)
    assert run.log_in("b", "refuses")
    assert not run.log_in("c", "refuses")  # the fifth would be
    assert run.count() == 3 + MAX_REFUSALS_AFTER_SUCCESS + 1


def test_a_key_that_a_machine_took_is_always_shown_again_and_one_it_refused_is_not():
    run = Run(KEY)
    run.log_in("a", "takes")
    for _ in range(50):
        assert run.log_in("a", "refuses")
    assert run.log_in("b", "refuses")
    assert not run.log_in("b", "takes")
    assert run.log_in("c", "cuts")  # it may be booting
    assert run.log_in("c", "takes")


def test_one_machine_at_a_time_judges_a_password_until_it_is_known_to_be_right():
    run = Run()
    inside, out = threading.Event(), threading.Event()

    def first() -> None:
        deadline = Deadline.after(run.clock, 60)
        with run.logins.open_attempt("a", "ann", PASSWORD, clock=run.clock, deadline=deadline):
            inside.set()
            out.wait(60)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(60)
    with (
        pytest.raises(DeadlineExceeded),
        run.logins.open_attempt(
            "b", "ann", PASSWORD, clock=run.clock, deadline=Deadline(run.clock.now() + timedelta(seconds=0.05))
        ),
    ):
        pytest.fail("it was sent")
    out.set()
    thread.join()
    with (
        run.logins.open_attempt("b", "ann", PASSWORD, clock=run.clock, deadline=SOON),
        run.logins.open_attempt("c", "ann", PASSWORD, clock=run.clock, deadline=SOON),
    ):
        pass  # from here on nobody waits for another


def _attempt(
    logins: LockoutGuard, machine: str, user: str, credential: Credential, deadline: Deadline
) -> AbstractContextManager[LoginAttempt]:
    return logins.open_attempt(machine, user, credential, clock=FakeClock(), deadline=deadline)


@pytest.mark.parametrize(
    ("says", "sent"),
    [("1 incorrect password attempt", MAX_REFUSALS_UNPROVEN), ("ann is not in the sudoers file.", 6)],
)
def test_a_wrong_password_for_sudo_is_not_tried_on_the_whole_fleet(says: str, sent: int):
    logins = LockoutGuard()
    lines = [ScriptedLine(LOGIN, says=says) for _ in range(6)]
    for number, line in enumerate(lines):
        attempts = functools.partial(_attempt, logins, f"m{number}")
        privilege = PrivilegeEscalator(
            PrivilegeMethod.SUDO, read_password=lambda: typed("wrong"), open_attempt=attempts
        )
        for _ in range(2):
            with pytest.raises(PrivilegeError) as caught:
                privilege.find_escalation(line, deadline=SOON)
            assert "wrong" not in f"{caught.value} {caught.value.hint}"
    assert sum(b"wrong\n" in stdin for line in lines for _, stdin in line.asked) == sent
