"""The PackageManager of Windows: the Windows Update Agent. Scripts: scripts/.

On most builds of Windows, a login over the network may ask the agent, and nothing else. What changes something, or what
that login is refused, is a job, which runs as SYSTEM.
The agent installs one update at a time, so each update is a transaction of its own.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final
from uuid import uuid4

from tasks.domain.errors import DeadlineExceeded, ManagerBusy, ManagerError, RequestError, ScriptFailed
from tasks.domain.model import PackageState, Update
from tasks.domain.protocols.clock import Clock, Deadline, SystemClock
from tasks.domain.protocols.package_manager import (
    JobKind,
    Rates,
    SimulationResult,
    Transaction,
    UpdaterMeans,
    WayBack,
)
from tasks.domain.protocols.transport import (
    Job,
    JobPhase,
    JobStatus,
    Script,
    ScriptParameter,
    ScriptRecord,
    ScriptResult,
    Transport,
)
from tasks.machines.managers.manager_base import ManagerDefaults, accepts_licences, build_job_parameters
from tasks.machines.managers.windows_update.assessment import (
    MANAGER_NAME,
    find_denied_call,
    parse_windows_assessment,
    require_search,
)
from tasks.machines.managers.windows_update.hresults import build_job_table, explain_code
from tasks.machines.managers.windows_update.offered_updates import OfferedUpdate, is_cumulative_title
from tasks.machines.managers.windows_update.other_managers import UPDATER_MEANS
from tasks.machines.managers.windows_update.records import parse_records
from tasks.machines.managers.windows_update.removal import (
    KB_PATTERN,
    PackageRecord,
    find_left_versions,
    parse_packages,
    simulate_removal,
)
from tasks.machines.managers.windows_update.unseen_fixes import APPROVE_MONTH
from tasks.machines.managers.windows_update.update_history import find_installed_versions

logger = logging.getLogger(__name__)

PACKAGE: Final = "tasks.machines.managers.windows_update"

DEFAULT_RATES: Final = Rates(
    transaction_seconds=0.0,
    install_seconds_per_update=600.0,
    download_bytes_per_second=2e6,
    reboot_seconds=900.0,
    validate_seconds=120.0,
    max_transaction_updates=1,
    read_timeout_seconds=900.0,
    going_down_seconds=3600.0,
    coming_up_seconds=3600.0,
)
"""A cumulative update takes 5 to 40 minutes, others take less. Azure's agent expects 15 minutes for an update and
10 for a reboot; a cumulative update also works during the boot. Each update is a transaction of its own, so the
prediction for several of them must have no fixed part. A search of a machine that was not patched for months, or on
Server 2016, takes many minutes. So may the work before the shutdown and during the boot on Server 2016 and 2019."""

FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.5, 30.0
"""Pauses between two looks at a job. Each is a new PowerShell, and an update takes minutes; where a machine logs what
PowerShell runs, each look is in its log."""
BUSY_SECONDS: Final = 10.0
"""The pause until a job that reads is started again, while several others of that kind run."""

_SLOW_HINT: Final = (
    "Try again: the agent continues its first search of a machine that was not patched for long. If it stays so, look "
    "at WSUS, and on the machine at the services wuauserv and bits, and at Get-WindowsUpdateLog."
)
_DENIED_HINT: Final = (
    "Look there, with dcomcnfg, at what SYSTEM may start and use (My Computer, COM Security; a policy may set it), at "
    "what the virus scanner blocks, and whether an administrator can search in Settings, Windows Update."
)
_READERS_HINT: Final = (
    "Four searches by jobs run there, and none ended in time. The machine ends each after two hours. Look there at the "
    "services wuauserv and bits, and at Get-ScheduledTask FleetPatch-wua-read-*."
)
_ID_PATTERN: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_VERSION_PATTERN: Final = re.compile(r"rev ([0-9]{1,9})")


class WindowsUpdateManager(ManagerDefaults):
    """The PackageManager for Windows. ``clock`` is for the wait for a job that reads."""

    name = MANAGER_NAME
    default_rates = DEFAULT_RATES
    script_package = PACKAGE
    updaters_script: Script | None = Script("updaters", read_only=False, package=PACKAGE)
    updater_means: UpdaterMeans | None = UPDATER_MEANS
    health_script: Script | None = Script("health", package=PACKAGE)
    offers_more_later = True
    longest_poll_seconds: float = LONGEST_POLL_SECONDS
    way_back = WayBack(
        removes=True,
        caution="Windows can't remove updates that are permanent, and says so only when it is asked to. The servicing "
        "stack of a cumulative update stays",
    )

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    def assess(self, transport: Transport, *, refresh: bool, deadline: Deadline) -> PackageState:
        """Ask the agent; with ``refresh``, it asks the update server. Without, it uses what the last search has stored.

        Raises:
            ManagerBusy: another installation keeps the agent from searching.
            RepositoryError: the update server can't be used.
            ManagerError: the agent can't be used.
        """
        params = {"refresh": "yes"} if refresh else {}
        result = self._read(transport, Script("wua_assess", params, package=PACKAGE), deadline)
        state = parse_windows_assessment(result)
        if all(problem.remedy != APPROVE_MONTH for problem in state.repository_problems):
            return state
        try:  # the history does not prove the month: it was cleared, or the system is that of an image
            months = self._read(transport, Script("wua_installed", {"months": "yes"}, package=PACKAGE), deadline)
        except (ManagerError, ScriptFailed, DeadlineExceeded) as error:
            logger.info("which monthly updates are installed is not known: %s", error.message)
            return state
        return parse_windows_assessment(ScriptResult((*result.records, *months.find_records("update")), 0))

    def simulate(
        self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline, **_no_effect: object
    ) -> SimulationResult:
        """Compare with what the agent offers now. An update brings nothing along: nothing else is to be simulated."""
        if not updates:
            return SimulationResult(changes={}, download_bytes=0)
        if any(update.goes_back for update in updates):
            return simulate_removal(updates, self._read_packages(transport, updates, deadline))
        script = Script("wua_simulate", {"ids": _list_ids(updates)}, package=PACKAGE)
        result = self._read(transport, script, deadline)
        require_search(result, "what the agent has stored")
        offered = {record.id: record for record in parse_records(OfferedUpdate, result.find_records("update"))}
        refused = {update.id: reason for update in updates if (reason := _find_refusal(update, offered.get(update.id)))}
        accepted = [offered[update.id] for update in updates if update.id not in refused]
        missing = [record for record in accepted if not record.downloaded]
        is_known = all(record.download_bytes is not None for record in missing)
        return SimulationResult(
            changes={record.id: record.version for record in accepted},
            refused=refused,
            download_bytes=sum(record.download_bytes or 0 for record in missing) if is_known else None,
        )

    def read_installed_versions(
        self, transport: Transport, updates: Sequence[Update], *, deadline: Deadline
    ) -> Mapping[str, str]:
        """Ask the agent which of these are installed. One that only waits for a reboot counts as installed."""
        away = [update for update in updates if update.goes_back and KB_PATTERN.fullmatch(update.kb)]
        left = find_left_versions(away, self._read_packages(transport, away, deadline)) if away else {}
        known_updates = [u for u in updates if _ID_PATTERN.fullmatch(u.id) and u not in away]
        if not known_updates:
            return left
        script = Script("wua_installed", {"ids": _list_ids(known_updates)}, package=PACKAGE)
        result = self._read(transport, script, deadline)
        require_search(result, "what the agent has stored")
        return {**left, **find_installed_versions(known_updates, result)}

    def _read_packages(
        self, transport: Transport, updates: Sequence[Update], deadline: Deadline
    ) -> Mapping[str, Sequence[PackageRecord]]:
        kbs = tuple(dict.fromkeys(update.kb for update in updates if KB_PATTERN.fullmatch(update.kb)))
        return parse_packages(self._read(transport, Script("wua_packages", {"kbs": kbs}, package=PACKAGE), deadline))

    def build_job_script(self, kind: JobKind, transactions: Sequence[Transaction], **_no_effect: object) -> Script:
        """Return the script of a job that downloads or installs exactly these updates.

        The agent installs nothing else along with an update: ``allowed``, ``allow_removals`` and ``excluded`` have no
        effect.

        Raises:
            RequestError: there is nothing to do, or an update's id or version is not valid.
        """
        params: dict[str, ScriptParameter] = build_job_parameters(kind, transactions)
        if any(update.goes_back for transaction in transactions for update in transaction.updates):
            return _build_removal(params, transactions)
        params["accept_licences"] = accepts_licences(update for t in transactions for update in t.updates)
        params["codes"] = build_job_table()
        titles = {
            update.id: update.title or update.name for transaction in transactions for update in transaction.updates
        }
        params["cumulative"] = tuple(name for name, title in titles.items() if is_cumulative_title(title))
        for transaction in transactions:
            params[f"tx_{transaction.number}_updates"] = tuple(map(_build_choice, transaction.updates))
        return Script("wua_job", params, read_only=False, package=PACKAGE)

    def _read(self, transport: Transport, script: Script, deadline: Deadline) -> ScriptResult:
        """Run a script that reads, and as a job of SYSTEM if Windows refuses something to the login.

        Raises:
            ManagerError: Windows refuses it to SYSTEM as well, or the job was lost.
        """
        try:
            result = transport.run_script(script, deadline=deadline)
        except DeadlineExceeded as error:
            error.hint = error.hint or _SLOW_HINT
            raise
        if denied := find_denied_call(result):
            try:
                result = self._run_as_job(transport, script, deadline)
            except ScriptFailed as error:
                error.message = f"{denied} to this login, and no job of SYSTEM could ask instead: {error.message}"
                raise
            if denied := find_denied_call(result):
                raise ManagerError(f"{denied} to SYSTEM too", hint=_DENIED_HINT)
        if result.exit_code != 0:
            raise _build_script_error(script, result)
        return result

    def _run_as_job(self, transport: Transport, script: Script, deadline: Deadline) -> ScriptResult:
        """Run a script that reads as a job, once more if it did not begin or was lost: it changes nothing."""
        for is_last in (False, True):
            job = Job(f"wua-read-{uuid4().hex[:12]}", script, reads=True)
            try:
                status = self._follow_job(transport, job, deadline)
            except ScriptFailed as error:
                if is_last:
                    raise
                logger.info("%s is asked as a job once more: %s", script.name, error.message)
                continue
            if status.phase is JobPhase.FINISHED:
                return ScriptResult(status.events, status.exit_code or 0, status.log)
        raise ManagerError(f"the job {job.id}, which was to ask the Windows Update Agent, is {status.phase}")

    def _follow_job(self, transport: Transport, job: Job, deadline: Deadline) -> JobStatus:
        """Start a job, and return its status at its end, with all its events."""
        self._start_job(transport, job, deadline)
        status = transport.poll_job(job.id, deadline=deadline)  # it may have ended before its start was answered
        events: list[ScriptRecord] = list(status.events)
        pause = FIRST_POLL_SECONDS
        while status.phase is JobPhase.RUNNING:
            if deadline.has_passed(self._clock):
                raise DeadlineExceeded(f"the job {job.id}, which asks the Windows Update Agent, has not ended in time")
            self._clock.sleep(min(pause, max(FIRST_POLL_SECONDS, deadline.remaining_seconds(self._clock))))
            pause = min(LONGEST_POLL_SECONDS, pause * 1.3)
            status = transport.poll_job(job.id, deadline=deadline, events_from=status.events_offset)
            events += status.events
        return replace(status, events=tuple(events))

    def _start_job(self, transport: Transport, job: Job, deadline: Deadline) -> None:
        """Start a job that reads, when there is a place for it."""
        while True:
            try:
                transport.start_job(job, deadline=deadline)
            except ManagerBusy as error:
                if deadline.remaining_seconds(self._clock) <= BUSY_SECONDS:
                    error.hint = _READERS_HINT
                    raise
                self._clock.sleep(BUSY_SECONDS)
            else:
                return


def _find_refusal(update: Update, offered: OfferedUpdate | None) -> str:
    if offered is None or offered.reboot_required:
        return "it is no longer offered: it was installed, superseded or withdrawn since the assessment"
    if offered.version != update.available:
        return f"{offered.version} is offered now, not {update.available}: that changed since the assessment"
    if not offered.eula_accepted and not update.needs_licence:
        return "its licence terms are not accepted: that changed since the assessment"
    return ""


def _build_script_error(script: Script, result: ScriptResult) -> ScriptFailed:
    errors = result.find_records("error")
    code = errors[0].get("hresult") if errors else None
    error_text = f": {errors[0].get('message')}" if errors else ""
    code_text = f" ({explain_code(code).text})" if isinstance(code, int) and not isinstance(code, bool) else ""
    return ScriptFailed(
        f"{script.name} ended with {result.exit_code}{error_text[:300]}{code_text}",
        exit_code=result.exit_code,
        output_tail=result.unframed_output,
    )


def _build_removal(params: dict[str, ScriptParameter], transactions: Sequence[Transaction]) -> Script:
    """Return the script of a job that removes updates. Raise RequestError if an update has no KB number."""
    params["codes"] = build_job_table()
    for transaction in transactions:
        if wrong := [update.name for update in transaction.updates if not KB_PATTERN.fullmatch(update.kb)]:
            raise RequestError(f"not an update of Windows with a KB number: {wrong[0]!r}")
        lines = tuple(f"{update.kb}|{update.name}" for update in transaction.updates)
        params[f"tx_{transaction.number}_updates"] = lines
    return Script("wua_undo", params, read_only=False, package=PACKAGE)


def _list_ids(updates: Sequence[Update]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(update.id for update in updates))


def _build_choice(update: Update) -> str:
    """Return an update as the job reads it: "ID|REVISION|NAME".

    Raises:
        RequestError: its id or version is not one of the agent.
    """
    version = _VERSION_PATTERN.fullmatch(update.available)
    if not _ID_PATTERN.fullmatch(update.id) or version is None:
        raise RequestError(f"not an update of Windows: {update.id!r} {update.available!r}")
    return f"{update.id}|{version[1]}|{update.name}"
