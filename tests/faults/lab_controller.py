"""A real controller process for the lab: carries a run, or takes one up, and may be struck by something on its way.

    python -m tests.faults.lab_controller FOLDER begin RUN [WHEN[=WHAT]]
    python -m tests.faults.lab_controller FOLDER resume RUN [WHEN[=WHAT]]
    python -m tests.faults.lab_controller FOLDER settle RUN

WHEN is a step that begins, "installing", "going down" (for its reboot), "order" (of an installation, just before it
goes out) or "reboot order" (the same of a reboot); WHAT is one of BLOWS.
FOLDER holds request.json and the records. A lease lasts fifteen seconds here, so that tests need not wait for a minute.
"""

import json
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flows.engine.run_lease
from flows.engine.run_lease import LeaseRenewer
from flows.execution import execute_run
from flows.local_run import LocalRunner
from flows.ports.caller import Caller
from flows.request.patch_request import PatchRequest
from tasks.domain.errors import FleetpatchError
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.transport import Job, JobStatus, Script, ScriptResult
from tasks.domain.run_errors import LeaseHeld
from tasks.domain.states import Step
from tasks.machines.transport.session import Session
from tasks.steps.context.run_control import LoggingListener

LEASE_SECONDS = 30.0  # on cores that others use, a renewal that is due each second may be late
PATIENCE = 8 * LEASE_SECONDS
"""For how long a controller tries to take up a run that somebody carries."""
STARVED_SECONDS, NAMELESS_SECONDS = 5.0, 12.0
REFUSED, FAILED = 3, 4
"""Exit codes: somebody carries the run; it ended with another error."""

_renewal = threading.Lock()
_gone: set[str] = set()
"""Names that can't be resolved now."""


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _held_up() -> None:
    with _renewal:  # stopped in a write, this process would keep SQLite locked
        # to this thread: another one may take a signal to the process, and this one sends its order meanwhile
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def _starved() -> None:
    """Leave no file descriptor free for a while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(place.name) for place in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
    taken: list[int] = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass

    def enough() -> None:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    threading.Timer(STARVED_SECONDS, enough).start()


def _nameless() -> None:
    """Let no name be resolved for a while, and cut the lines that are open, so that one is asked for."""
    _gone.add("all")
    threading.Timer(NAMELESS_SECONDS, _gone.clear).start()
    for session in _sessions:
        session.close()


BLOWS: Mapping[str, Callable[[], None]] = {
    "killed": _killed,
    "held-up": _held_up,
    "starved": _starved,
    "nameless": _nameless,
}

_sessions: list[Session] = []


class Struck(LoggingListener):
    """Watches for the moment at which this process is to be struck, and strikes once."""

    def __init__(self, folder: Path, when: str, what: str) -> None:
        self._note = folder / "struck"
        self._when = when
        self._what = what or "killed"

    def on_progress(self, machine: str, step: Step, fraction: float | None, message: str) -> None:
        """Strike, when it is so far."""
        begins = fraction == 0.0 and not message and step.value == self._when
        if begins or (self._when in ("installing", "going down") and message.startswith(self._when)):
            self.strike()

    def order(self, job: Job) -> None:
        """Strike, when that order is the one."""
        if self._when == "order" and job.script.params.get("work") == "install":
            self.strike()

    def reboot_order(self) -> None:
        """Strike, when that is the one."""
        if self._when == "reboot order":
            self.strike()

    def strike(self) -> None:
        """Strike, the first time."""
        if not self._note.exists():
            self._note.touch()
            BLOWS[self._what]()


def _overhear(struck: Struck) -> None:
    """Let every order be seen just before it goes out, when the engine has asked all that it asks."""
    start, run = Session.start_job, Session.run_script

    def overheard(self: Session, job: Job, *, deadline: Deadline) -> JobStatus:
        if self not in _sessions:
            _sessions.append(self)
        struck.order(job)
        return start(self, job, deadline=deadline)

    def overheard_script(self: Session, script: Script, *, deadline: Deadline) -> ScriptResult:
        if script.name != "reboot":
            return run(self, script, deadline=deadline)
        struck.reboot_order()
        late = Deadline.after(SystemClock(), 60)  # what is on its way arrives, whatever moment it is
        answer = run(self, script, deadline=late)
        sys.stderr.write(f"the reboot's order was answered with {answer.records}\n")
        return answer

    Session.start_job, Session.run_script = overheard, overheard_script  # type: ignore[method-assign]


def _names(place: Path) -> None:
    """Resolve the names in a file, and only as long as they can be."""
    known: dict[str, str] = json.loads(place.read_text())
    resolve: Any = socket.getaddrinfo

    def answer(host: Any, *words: Any, **more: Any) -> Any:
        if host in known and _gone:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve(known.get(host, host), *words, **more)

    socket.getaddrinfo = answer


def _renew_in_turn() -> None:
    """Let no lease be renewed, in its thread, while this process stops itself."""
    renew = LeaseRenewer._renew

    def renewed(self: LeaseRenewer) -> None:
        with _renewal:
            renew(self)

    LeaseRenewer._renew = renewed  # type: ignore[method-assign]


def _take_up(run_id: str, who: Caller) -> None:
    """Take a run up as soon as its lease is over."""
    patience = time.monotonic() + PATIENCE
    while True:
        try:
            execute_run(run_id, who, lambda request, ports: LocalRunner())
        except LeaseHeld:
            if time.monotonic() > patience:
                raise
        else:
            return
        time.sleep(0.5)


def main(folder: Path, verb: str, run_id: str, strike: str = "") -> int:
    """Do it; return the exit code."""
    flows.engine.run_lease.LEASE_SECONDS, flows.engine.run_lease.RENEW_SECONDS = LEASE_SECONDS, 1.0
    url = os.environ.get("FLEETPATCH_RECORDS_URL") or f"sqlite:///{folder / 'records.db'}"
    struck = Struck(folder, *strike.partition("=")[::2])
    _overhear(struck)
    _renew_in_turn()
    if (folder / "names.json").exists():
        _names(folder / "names.json")
    who = Caller(struck, records_url=url, run_id=run_id)
    if verb == "settle":
        who.stop_token.request_stop("settled")
    try:
        if verb == "begin":
            request = PatchRequest.model_validate_json((folder / "request.json").read_text())
            execute_run(request, who, lambda request, ports: LocalRunner())
        else:
            _take_up(run_id, who)
    except LeaseHeld as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    except FleetpatchError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
