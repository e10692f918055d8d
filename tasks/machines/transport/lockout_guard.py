"""The logins of one run. A refused credential is not sent again, because accounts could be locked.

A refusal is stored for its machine, user and credential. A password is also counted for all machines: its account may
be in a directory, which locks it for all machines after some refusals. Nothing shows whether an account is such a one.
"""

import math
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import field
from datetime import datetime, timedelta
from typing import Final

from inventory.credentials import Credential, CredentialKind
from inventory.data_class import dataclass
from inventory.name_lists import format_count
from tasks.domain.errors import AuthenticationFailed, DeadlineExceeded
from tasks.domain.protocols.clock import Clock, Deadline

MAX_REFUSALS_UNPROVEN: Final = 2
"""How many machines in a row may refuse a password that no machine has accepted in this run."""
MAX_REFUSALS_PROVEN: Final = 5
"""The same for a password that a machine has accepted: it is correct, unless it is changed during the run."""
MAX_REFUSALS_AFTER_SUCCESS: Final = 3
"""Refusals in a row by a machine that accepted the password before: its directory may not be up during a boot."""
REFUSAL_RETRY_DELAY: Final = timedelta(seconds=30)
"""The pause between two such attempts."""
MAX_MACHINES_IN_DOUBT: Final = 2
"""How many machines that accepted a password before may refuse it, without an acceptance since. More of them would lock
an account of a directory whose password was changed during the run."""
DOUBT_DELAY: Final = timedelta(minutes=5)
"""For how long no machine gets the password then: machines that boot refuse logins until their directory is up."""
LONG_DOUBT_DELAY: Final = timedelta(minutes=30)
"""The same after MAX_REFUSALS_IN_DOUBT. Most directories count refusals for a shorter time."""
MAX_REFUSALS_IN_DOUBT: Final = 4
"""So many refusals of a changed password reach a directory, then one in LONG_DOUBT_DELAY: usual limits are higher."""


@dataclass(slots=True)
class LoginAttempt:
    """One login attempt."""

    # Fingerprints of offered keys that were accepted, the latest first. The login adds to them.
    accepted_keys: list[str]
    is_refused: bool = False  # whether the machine refused it
    is_interrupted: bool = False  # whether the connection ended after the credential was sent and before an answer


@dataclass(slots=True)
class _RefusalCount:
    count: int
    last_refused_at: datetime


@dataclass(slots=True)
class _CredentialState:
    """A user and a credential, on all machines."""

    probe_lock: threading.Lock = field(default_factory=threading.Lock)
    accepting_machines: set[str] = field(default_factory=set)
    refusals_by_machine: dict[str, _RefusalCount] = field(default_factory=dict)
    consecutive_refusals: list[str] = field(default_factory=list)
    machines_in_doubt: set[str] = field(default_factory=set)
    doubted_at: datetime | None = None
    refusals_in_doubt: int = 0
    accepted_keys: list[str] = field(default_factory=list)

    def is_doubtful(self) -> bool:
        return not self.accepting_machines or bool(self.machines_in_doubt)

    def find_doubt_end(self) -> datetime | None:
        """Return until when the password must be sent to no machine, or None."""
        if self.doubted_at is None or len(self.machines_in_doubt) < MAX_MACHINES_IN_DOUBT:
            return None
        return self.doubted_at + (DOUBT_DELAY if self.refusals_in_doubt < MAX_REFUSALS_IN_DOUBT else LONG_DOUBT_DELAY)


class LockoutGuard:
    """The logins of one run. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[tuple[str, Credential], _CredentialState] = {}

    @contextmanager
    def open_attempt(
        self, machine: str, user: str, credential: Credential, *, clock: Clock, deadline: Deadline
    ) -> Iterator[LoginAttempt]:
        """Return the context of one login attempt. The caller sets whether it was refused or interrupted.

        As long as no machine has accepted a password, it is sent to one machine at a time; and also when a machine that
        accepted it refuses it, until one accepts it again. ``deadline`` is of the wait for another machine's answer.

        Raises:
            AuthenticationFailed: it must not be sent, because of earlier refusals.
            DeadlineExceeded: another machine's answer did not come in time.
        """
        with self._lock:
            account = self._accounts.setdefault((user, credential), _CredentialState())
        is_password = credential.kind is CredentialKind.PASSWORD
        with ExitStack() as stack:
            if is_password and account.is_doubtful():
                if not account.probe_lock.acquire(timeout=max(0.0, deadline.remaining_seconds(clock))):
                    raise DeadlineExceeded(f"no machine said in time whether the password of {user} is right")
                turn = stack.enter_context(ExitStack())
                turn.callback(account.probe_lock.release)
                if not account.is_doubtful():  # accepted meanwhile: no other login has to wait for this one
                    turn.close()
            with self._lock:
                self._require_permitted(account, machine, user, credential, clock.now())
                attempt = LoginAttempt(account.accepted_keys)
            worked = False
            try:
                yield attempt
                worked = True
            finally:
                with self._lock:
                    _record_attempt(account, machine, attempt, clock.now(), password=is_password, worked=worked)

    def _require_permitted(
        self, account: _CredentialState, machine: str, user: str, credential: Credential, now: datetime
    ) -> None:
        login = f"the {credential.kind.value} of {user}" if user else "this login"
        refusals = account.refusals_by_machine.get(machine)
        if refusals is not None and machine in account.accepting_machines:
            if refusals.count >= MAX_REFUSALS_AFTER_SUCCESS:
                raise AuthenticationFailed(
                    f"{login} was accepted before in this run, then refused {format_count(refusals.count, 'time')}; "
                    "it is not sent again",
                    hint="Was it changed, or the account locked? Correct it, and start again.",
                )
            if now < refusals.last_refused_at + REFUSAL_RETRY_DELAY:
                message = f"{login} was accepted before in this run, and has just been refused"
                raise AuthenticationFailed(message, hint="It is sent again soon.")
        elif refusals is not None:
            raise AuthenticationFailed(
                f"it refused {login} earlier in this run; it is not sent again",
                hint="Correct the credential, or the account on the machine, and start again.",
            )
        until = account.find_doubt_end()
        if until is not None and now < until:
            raise AuthenticationFailed(
                f"{login} was accepted before in this run, and then refused by "
                f"{', '.join(sorted(account.machines_in_doubt))}; it is not sent to any machine for "
                f"{format_count(math.ceil((until - now).total_seconds() / 60), 'minute')}",
                hint="A shared account would be locked. Was the password changed? Correct it, and start again.",
            )
        refusing_machines = [name for name in account.consecutive_refusals if name != machine]
        if machine not in account.accepting_machines and len(refusing_machines) >= (
            MAX_REFUSALS_PROVEN if account.accepting_machines else MAX_REFUSALS_UNPROVEN
        ):
            raise AuthenticationFailed(
                f"{login} is not sent any more: {', '.join(refusing_machines)} refused it one after the other",
                hint="A shared account would be locked. Correct the password, or give those machines a credential of "
                "their own or leave them out, and start again.",
            )


def _record_attempt(
    account: _CredentialState, machine: str, attempt: LoginAttempt, now: datetime, *, password: bool, worked: bool
) -> None:
    if worked:
        account.accepting_machines.add(machine)
        account.refusals_by_machine.pop(machine, None)
        account.consecutive_refusals.clear()
        account.machines_in_doubt.clear()
        account.refusals_in_doubt = 0
        return
    is_accepted = machine in account.accepting_machines
    # A broken connection proves little. For a password that never worked there, it counts as a refusal, to be safe.
    counts = attempt.is_refused or (attempt.is_interrupted and password and not is_accepted)
    # a refused key locks no account, and a booting machine refuses valid keys
    if not counts or (is_accepted and not password):
        return
    before = account.refusals_by_machine.get(machine)
    account.refusals_by_machine[machine] = _RefusalCount(1 if before is None else before.count + 1, now)
    if is_accepted:
        account.machines_in_doubt.add(machine)
        account.refusals_in_doubt += 1
        account.doubted_at = now
    if password and machine not in account.consecutive_refusals:
        account.consecutive_refusals.append(machine)
