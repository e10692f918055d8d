"""The failure budget: how many failures stop a run. It is checked before each machine, for the run and its wave."""

from collections.abc import Mapping
from enum import Enum, auto

from inventory.data_class import dataclass
from inventory.name_lists import format_count
from tasks.domain.errors import (
    AuthenticationFailed,
    ConnectionLost,
    HostKeyMismatch,
    HostKeyUnknown,
    LoginBroken,
    Unreachable,
    WayUnreachable,
)
from tasks.domain.model import ErrorInfo, Outcome, UpdateResult
from tasks.domain.states import PRESENT_UPDATE_STATES, FindingLevel, OperationState, Step, UpdateState
from tasks.rules.machine_checks.services import SERVICE_RESTART_CHECK

DEFAULT_FAILURE_PERCENT = 20.0  # Azure's rolling upgrades: at most 20 % of a batch may be unhealthy
DEFAULT_UNREACHABLE_PERCENT = 50.0  # above this, the cause is probably the controller (network, login)

_LOGIN_ERROR_KINDS = frozenset(
    kind.__name__
    for kind in (Unreachable, WayUnreachable, ConnectionLost, AuthenticationFailed, HostKeyMismatch, HostKeyUnknown)
)
_READ_ONLY_STEPS = frozenset({Step.ASSESS, Step.PRECHECK})


@dataclass(frozen=True, slots=True)
class FailureBudget:
    """How many machines may fail before no further machine begins. None: no limit of that kind.

    Attributes:
        count: allowed number of failed machines in the run.
        percent: allowed failed machines, as a share of the run's machines and of each wave's machines, rounded down.
            In a wave that is not a canary wave, one machine may always fail.
        unreachable_percent: allowed unreachable machines, as a share of the run's machines, rounded down. They do not
            count as failed machines.
        go_on_after_failed_canary: True: failed canaries count like other machines. False: one failed canary stops the
            run, whatever the other limits are.
    """

    count: int | None = None
    percent: float | None = None
    unreachable_percent: float = DEFAULT_UNREACHABLE_PERCENT
    go_on_after_failed_canary: bool = False


class OutcomeClass(Enum):
    """How one machine counts for the failure budget."""

    NOT_STARTED = auto()
    PATCHED = auto()
    UNCHANGED = auto()
    FAILED = auto()
    UNREACHABLE = auto()


@dataclass(frozen=True, slots=True)
class OutcomeTally:
    """The outcomes of a group of machines so far."""

    machines: int  # number of machines, begun or not
    counts: Mapping[OutcomeClass, int]


def is_login_error(error: ErrorInfo | None) -> bool:
    """Return whether an error means that a login to the machine was impossible."""
    return error is not None and error.kind in _LOGIN_ERROR_KINDS


def find_broken_login(outcome: Outcome) -> str:
    """Return why no further machine may begin because this one refuses the login since its update, or ""."""
    if outcome.error is None or not outcome.error.is_a(LoginBroken):
        return ""
    return f"{outcome.machine} refuses the login since its update, so no further machine begins"


def classify_outcome(outcome: Outcome, *, only_downloads: bool = False) -> OutcomeClass:
    """Return how a machine's outcome counts for the failure budget.

    A machine is unreachable when the login failed before any change. A machine that is lost later, for example in its
    reboot, has failed. So has a machine in state Unknown, and one with an update whose setup failed. A machine with
    updates to install, none of which was attempted, has not begun. One that had nothing to install is unchanged.
    """
    if outcome.state is OperationState.NOT_STARTED or _has_no_attempt(outcome, only_downloads):
        return OutcomeClass.NOT_STARTED
    if outcome.state not in (OperationState.FAILED, OperationState.UNKNOWN):
        if outcome.count_updates(UpdateState.SETUP_FAILED):
            return OutcomeClass.FAILED
        return OutcomeClass.PATCHED if _was_changed(outcome, only_downloads) else OutcomeClass.UNCHANGED
    unchanged = outcome.install is None and all(record.step in _READ_ONLY_STEPS for record in outcome.steps)
    return OutcomeClass.UNREACHABLE if unchanged and is_login_error(outcome.error) else OutcomeClass.FAILED


def _was_changed(outcome: Outcome, only_downloads: bool) -> bool:
    install, reboot = outcome.install, outcome.reboot_result
    if only_downloads:
        return install is not None and install.staged_seconds is not None
    was_rebooted = reboot is not None and bool(reboot.count)
    restarted = (one.check == SERVICE_RESTART_CHECK and one.level is FindingLevel.GOOD for one in outcome.findings)
    return was_rebooted or any(restarted) or (install is not None and any(map(_was_attempted, install.results)))


def _was_attempted(result: UpdateResult) -> bool:
    return result.state in (*PRESENT_UPDATE_STATES, UpdateState.FAILED)


def _has_no_attempt(outcome: Outcome, only_downloads: bool) -> bool:
    """Return whether the install step attempted nothing, because no time was left or a lock was held."""
    install = outcome.install
    if install is None or outcome.state is not OperationState.COMPLETED_WITH_WARNINGS:
        return False
    if only_downloads:
        return install.staged_seconds is None
    is_left = any(result.state in (UpdateState.NOT_ATTEMPTED, UpdateState.PENDING) for result in install.results)
    return is_left and not any(map(_was_attempted, install.results))


def check_failures(
    budget: FailureBudget, run: OutcomeTally, wave: OutcomeTally, *, number: int = 1, canary: bool = False
) -> str:
    """Return a sentence with the figures when more machines failed than allowed, or ""."""
    failed, failed_here = run.counts.get(OutcomeClass.FAILED, 0), wave.counts.get(OutcomeClass.FAILED, 0)
    if canary and failed_here and not budget.go_on_after_failed_canary:
        return f"{_format_share(failed_here, wave)} of canary wave {number} failed, 0 may fail"
    if budget.count is not None and failed > budget.count:
        return f"{_format_share(failed, run)} failed, {budget.count} may fail"
    if budget.percent is None:
        return ""
    allowed = compute_share(run.machines, budget.percent)
    if failed > allowed:
        return f"{_format_share(failed, run)} failed, {allowed} may fail ({budget.percent:g} %)"
    allowed = max(0 if canary else 1, compute_share(wave.machines, budget.percent))
    if failed_here > allowed:
        kind = "canary wave" if canary else "wave"
        return (
            f"{_format_share(failed_here, wave)} of {kind} {number} failed, {allowed} may fail ({budget.percent:g} %)"
        )
    return ""


def check_unreachable(budget: FailureBudget, run: OutcomeTally) -> str:
    """Return a sentence with the figures when more machines are unreachable than allowed, or ""."""
    unreachable = run.counts.get(OutcomeClass.UNREACHABLE, 0)
    allowed = compute_share(run.machines, budget.unreachable_percent)
    if unreachable <= allowed:
        return ""
    limit = f"{allowed} may be missing ({budget.unreachable_percent:g} %)"
    return f"{_format_share(unreachable, run)} can't be reached, {limit}"


def check_canary_wave(wave: OutcomeTally, number: int) -> str:
    """Return why a finished canary wave proved nothing, or "": no machine of it was changed."""
    worked_on = wave.counts.get(OutcomeClass.PATCHED, 0) + wave.counts.get(OutcomeClass.FAILED, 0)
    if worked_on or not wave.machines:
        return ""
    return f"canary wave {number} has shown nothing: none of its machines was patched"


def compute_share(machines: int, percent: float) -> int:
    """Return a share of a number of machines, rounded down: 20 % of 9 is 1."""
    return int(machines * percent / 100 + 1e-9)  # 10 * 29.999999999999996 / 100 is 3, not 2


def _format_share(count: int, among: OutcomeTally) -> str:
    return f"{count} of {format_count(among.machines, 'machine')}"
