"""What became of logins in one run, so that a credential that was refused is not sent again: accounts get locked.

A refusal is remembered for its machine, user and credential. A password is also counted for the whole fleet, for its
account may be one of a directory, which is locked for all machines after some refusals. Nobody can tell such an account
from one that each machine has for itself, so the count is the directory's own: refusals in a row, ended by a login that
works.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from inventory.credentials import Credential, CredentialKind
from tasks.errors import DeadlineExceeded
from tasks.seams.clock import Clock, Deadline

UNPROVEN: Final = 2
"""Machines in a row that may refuse a password that has worked nowhere in this run."""
PROVEN: Final = 5
"""The same once it has worked: it is right, unless it is changed while the run goes on."""
AGAIN: Final = 3
"""Refusals in a row by a machine that took the password before: while it boots, what it asks may not be up yet."""
PAUSE: Final = timedelta(seconds=30)
"""Between two of these."""


class NotSent(Exception):
    """A credential was not sent, for what became of it before.

    Attributes:
        message: why, for people.
        hint: what to do about it.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(slots=True)
class Attempt:
    """One login that is under way.

    Attributes:
        keys: of an agent: names of keys that were taken, the latest first; whoever logs in adds to them.
        refused: whether the machine said no.
        cut: whether the line ended after the credential was sent, and before an answer.
    """

    keys: list[str]
    refused: bool = False
    cut: bool = False


@dataclass(slots=True)
class _Refusals:
    count: int
    at: datetime


@dataclass(slots=True)
class _Account:
    """A user and a credential, wherever they are used."""

    turn: threading.Lock = field(default_factory=threading.Lock)
    worked: set[str] = field(default_factory=set)
    refused: dict[str, _Refusals] = field(default_factory=dict)
    in_a_row: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


class Logins:
    """The logins of one run. For many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[tuple[str, Credential], _Account] = {}

    @contextmanager
    def attempt(
        self, machine: str, user: str, credential: Credential, *, clock: Clock, deadline: Deadline
    ) -> Iterator[Attempt]:
        """Log in within this context, and say in the attempt when it was refused or cut.

        While a password has worked nowhere, it is sent to one machine at a time.

        Args:
            machine: its name.
            user: the login.
            credential: what will be sent.
            clock: tells the time.
            deadline: of the wait for another machine's answer.

        Raises:
            NotSent: it must not be sent.
            DeadlineExceeded: another machine's answer did not come in time.
        """
        with self._lock:
            account = self._accounts.setdefault((user, credential), _Account())
        is_password = credential.kind is CredentialKind.PASSWORD
        with ExitStack() as stack:
            if is_password and not account.worked:
                if not account.turn.acquire(timeout=max(0.0, deadline.remaining(clock))):
                    raise DeadlineExceeded(f"no machine said in time whether the password of {user} is right")
                turn = stack.enter_context(ExitStack())
                turn.callback(account.turn.release)
                if account.worked:  # by now: nobody has to wait for this one
                    turn.close()
            with self._lock:
                self._permit(account, machine, user, credential, clock.now())
                attempt = Attempt(account.keys)
            worked = False
            try:
                yield attempt
                worked = True
            finally:
                with self._lock:
                    _note(account, machine, attempt, clock.now(), password=is_password, worked=worked)

    def _permit(self, account: _Account, machine: str, user: str, credential: Credential, now: datetime) -> None:
        what = f"the {credential.kind.value} of {user}"
        mine = account.refused.get(machine)
        if mine is not None and machine in account.worked:
            if mine.count >= AGAIN:
                raise NotSent(
                    f"{what} was taken before in this run, then refused {mine.count} times; it is not sent again",
                    "Was it changed, or the account locked? Correct it, and start again.",
                )
            if now < mine.at + PAUSE:
                raise NotSent(
                    f"{what} was taken before in this run, and has just been refused", "It is sent again soon."
                )
        elif mine is not None:
            raise NotSent(
                f"it refused {what} earlier in this run; it is not sent again",
                "Correct the credential, or the account on the machine, and start again.",
            )
        others = [name for name in account.in_a_row if name != machine]
        if machine not in account.worked and len(others) >= (PROVEN if account.worked else UNPROVEN):
            raise NotSent(
                f"{what} is not sent any more: {', '.join(others)} refused it one after the other",
                "A shared account would be locked. Correct the password, or give those machines a credential of their "
                "own or leave them out, and start again.",
            )


def _note(account: _Account, machine: str, attempt: Attempt, now: datetime, *, password: bool, worked: bool) -> None:
    if worked:
        account.worked.add(machine)
        account.refused.pop(machine, None)
        account.in_a_row.clear()
        return
    known = machine in account.worked
    # A line that was cut says little. Of a password that never worked there it counts as a refusal, to be safe.
    counts = attempt.refused or (attempt.cut and password and not known)
    if not counts or (known and not password):  # no account is locked by a key, and a machine that boots refuses it
        return
    before = account.refused.get(machine)
    account.refused[machine] = _Refusals(1 if before is None else before.count + 1, now)
    if password and machine not in account.in_a_row:
        account.in_a_row.append(machine)
