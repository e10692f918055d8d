"""Put the real parts together: inventory, records, transports and package managers."""

import functools
import logging
import os
import pwd
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path

import platformdirs

from flows.approval_gate import with_approval
from flows.context import Caller
from flows.frozen import frozen_of
from flows.hooks.calling import hook_caller
from flows.notify import heralded
from flows.ports import Freezes, Herald, Ports
from flows.request import AssessRequest, PatchRequest
from inventory.credentials import Credential, resolve
from inventory.load import find_inventory, load_inventory
from inventory.machine import Machine
from inventory.places import own_folder
from tasks.errors import CredentialError, RecordsError, ReportError
from tasks.managers.detect import manager_for
from tasks.records.approvals import SqlApprovals
from tasks.records.history import History
from tasks.records.opening import open_records
from tasks.records.retention import apply_retention
from tasks.records.sql import SqlRecords
from tasks.seams.clock import Clock, SystemClock
from tasks.seams.transport import Transport
from tasks.transport.logins import Logins

logger = logging.getLogger(__name__)

TIDY_SECONDS = 10.0  # a run that is over does not wait longer for old history to go; the rest goes after the next one


def prefect_secret(block: str) -> str:
    """Return the value of a Prefect Secret block.

    Raises:
        CredentialError: there is no such block, or Prefect can't be asked.
    """
    from prefect.blocks.system import Secret  # noqa: PLC0415 - loading Prefect takes a second that plain runs save

    try:
        loaded = Secret.load(block)
    except ValueError as error:
        hint = f"Create it: prefect block create secret, with the name {block!r}."
        raise CredentialError(f"there is no Prefect secret block {block!r}", hint=hint) from error
    if not isinstance(loaded, Secret):  # within an event loop Prefect hands out a coroutine instead
        raise CredentialError(f"Prefect secret block {block!r} can't be read from asynchronous code")
    return str(loaded.get())


def _fetch(reference: str) -> Credential:
    return resolve(reference, blocks=prefect_secret)


def telling(request: AssessRequest | PatchRequest, who: Caller) -> AbstractContextManager[Herald]:
    """Give a way to tell the people that a request names; what is still to be sent has some seconds at the end."""
    asked = request.notify if isinstance(request, PatchRequest) else ()
    return heralded(asked, _fetch, who.watch.said)


def _declared_freezes(request: AssessRequest | PatchRequest, who: Caller, clock: Clock) -> Freezes:
    if not isinstance(request, PatchRequest) or not request.configuration:
        return tuple
    from flows.freezes import DeclaredFreezes  # noqa: PLC0415 - loading Prefect takes a second that plain runs save

    return DeclaredFreezes(request.configuration, request.window.zone, who.watch.said, clock)


@contextmanager
def real_ports(request: AssessRequest | PatchRequest, who: Caller) -> Iterator[Ports]:
    """Give the way out of a run on real machines, and close its records when the block is left.

    Raises:
        InventoryError: the inventory can't be found or used.
        RecordsError: the records can't be opened.
    """
    inventory = load_inventory(find_inventory(request.inventory))
    clock, logins = SystemClock(), Logins()

    def connect(machine: Machine) -> Transport:
        from tasks.transport.open import open_session  # noqa: PLC0415 - loads paramiko, which who only reads saves

        return open_session(machine, inventory, clock=clock, secrets=_fetch, logins=logins)

    with open_records(who.records_url) as records, telling(request, who) as tell:
        ports = Ports(
            inventory=inventory,
            clock=clock,
            records=records,
            leases=records.leases,
            connect=connect,
            manager_for=manager_for,
            watch=who.watch,
            control=who.control,
            logs=lambda report: History(records).logs(report.run.id),
            tell=tell,
            call_hook=hook_caller(clock, who.control, records.leases.ask_to_stop),
            frozen=functools.partial(frozen_of, History(records)),
            freezes=_declared_freezes(request, who, clock),
        )
        yield with_approval(ports, request, SqlApprovals(records.database))
        _tidy(records, clock, who)


def _tidy(records: SqlRecords, clock: Clock, who: Caller) -> None:
    """Forget what history keeps no longer. The run is over: what goes wrong here is said, and no more."""
    until = clock.now() + timedelta(seconds=TIDY_SECONDS)
    try:
        gone = apply_retention(records, clock.now(), lambda: clock.now() < until)
    except RecordsError as error:
        logger.warning("old history could not be forgotten: %s", error.message)
        return
    if gone.runs or gone.assessments:
        who.watch.said(
            f"forgot {gone.runs} old runs and {gone.assessments} old assessments: "
            "`fleetpatch history` shows how long they are kept"
        )


def report_directory(asked: Path | None) -> Path:
    """Return where reports go: as asked, or in the user's data folder.

    Raises:
        ReportError: the user has none.
    """
    if asked is not None:
        return asked
    return own_folder(platformdirs.user_data_path, ReportError, "name a directory for reports") / "reports"


def whoami(who: Caller) -> str:
    """Return who started a run, for its records."""
    return who.name or login_name()


def login_name() -> str:
    """Return the name of this process's user by the system's list of users: in LOGNAME stands whatever one likes."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's made-up user
        return f"user {os.getuid()}"
