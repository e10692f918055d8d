"""When too many failures stop a run: asked before each machine is begun, of the whole run and of its current wave."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from tasks.errors import AuthenticationFailed, ConnectionLost, HostKeyMismatch, HostKeyUnknown, Unreachable
from tasks.model import ErrorInfo, Outcome
from tasks.states import SETTLED, OperationState, Step, UpdateState

DEFAULT_PERCENT = 20.0  # Azure's rolling upgrades: at most 20 % of a batch may be unhealthy
DEFAULT_UNREACHABLE_PERCENT = 50.0  # beyond that the cause is more likely here (network, login) than on the machines

_NO_LOGIN = frozenset(
    kind.__name__ for kind in (Unreachable, ConnectionLost, AuthenticationFailed, HostKeyMismatch, HostKeyUnknown)
)
_BEFORE_ANY_CHANGE = frozenset({Step.ASSESS, Step.PRECHECK})


@dataclass(frozen=True, slots=True)
class FailureBudget:
    """How many machines may fail before no further machine is begun. None: no limit of that kind.

    Attributes:
        count: failed machines in the whole run.
        percent: failed machines, as a share of the run's machines and as a share of each wave's machines; both are
            rounded down. In a wave that is no canary wave one machine may fail whatever the share of the wave is.
        unreachable_percent: machines that can't be reached, as a share of the run's machines, rounded down. They are
            not failed machines.
        go_on_after_failed_canary: whether failed canaries are counted as other machines are. Else one is too many,
            whatever the other figures allow.
    """

    count: int | None = None
    percent: float | None = None
    unreachable_percent: float = DEFAULT_UNREACHABLE_PERCENT
    go_on_after_failed_canary: bool = False


class Verdict(Enum):
    """What one machine means for the budget."""

    NOT_BEGUN = auto()
    PATCHED = auto()
    FAILED = auto()
    UNREACHABLE = auto()


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of a number of machines so far.

    Attributes:
        machines: how many there are, begun or not.
        verdicts: how many of them there are of each verdict.
    """

    machines: int
    verdicts: Mapping[Verdict, int]


def is_unreachable(error: ErrorInfo | None) -> bool:
    """Return whether an error says that no login to the machine was possible."""
    return error is not None and error.kind in _NO_LOGIN


def verdict_of(outcome: Outcome, *, only_downloads: bool = False) -> Verdict:
    """Return what a machine's outcome means for the budget.

    A machine is unreachable when the login failed before anything was changed. A machine that is lost later, in its
    reboot for example, has failed, and so has one whose state is Unknown. A machine that had updates to install, and
    on which not one was attempted, was not begun.

    Args:
        outcome: of the machine.
        only_downloads: whether the run downloads updates and installs none.
    """
    if outcome.state is OperationState.NOT_STARTED or _nothing_attempted(outcome, only_downloads):
        return Verdict.NOT_BEGUN
    if outcome.state not in (OperationState.FAILED, OperationState.UNKNOWN):
        return Verdict.PATCHED
    unchanged = outcome.install is None and all(record.step in _BEFORE_ANY_CHANGE for record in outcome.steps)
    return Verdict.UNREACHABLE if unchanged and is_unreachable(outcome.error) else Verdict.FAILED


def _nothing_attempted(outcome: Outcome, only_downloads: bool) -> bool:
    """Whether a machine came to its installation, and nothing happened there: no time was left, or a lock was held."""
    install = outcome.install
    if install is None or outcome.state is not OperationState.COMPLETED_WITH_WARNINGS:
        return False
    if only_downloads:
        return install.staged_seconds is None
    return not any(result.state in (*SETTLED, UpdateState.FAILED) for result in install.results)


def too_many_failed(budget: FailureBudget, run: Tally, wave: Tally, *, number: int = 1, canary: bool = False) -> str:
    """Return that more machines failed than may fail, with the figures, or "".

    Args:
        budget: what is allowed.
        run: the whole run's machines.
        wave: the current wave's machines.
        number: of that wave.
        canary: whether it is a canary wave.
    """
    failed, failed_here = run.verdicts.get(Verdict.FAILED, 0), wave.verdicts.get(Verdict.FAILED, 0)
    if canary and failed_here and not budget.go_on_after_failed_canary:
        return f"{_of(failed_here, wave)} of canary wave {number} failed, 0 may fail"
    if budget.count is not None and failed > budget.count:
        return f"{_of(failed, run)} failed, {budget.count} may fail"
    if budget.percent is None:
        return ""
    allowed = share(run.machines, budget.percent)
    if failed > allowed:
        return f"{_of(failed, run)} failed, {allowed} may fail ({budget.percent:g} %)"
    allowed = max(0 if canary else 1, share(wave.machines, budget.percent))
    if failed_here > allowed:
        kind = "canary wave" if canary else "wave"
        return f"{_of(failed_here, wave)} of {kind} {number} failed, {allowed} may fail ({budget.percent:g} %)"
    return ""


def too_many_unreachable(budget: FailureBudget, run: Tally) -> str:
    """Return that more machines of the run can't be reached than may be missing, with the figures, or ""."""
    unreachable = run.verdicts.get(Verdict.UNREACHABLE, 0)
    allowed = share(run.machines, budget.unreachable_percent)
    if unreachable <= allowed:
        return ""
    return f"{_of(unreachable, run)} can't be reached, {allowed} may be missing ({budget.unreachable_percent:g} %)"


def why_unproven(wave: Tally, number: int) -> str:
    """Return why a canary wave that is over has shown nothing, or "": not one of its machines was worked on.

    A canary that is up to date was: what is pending elsewhere may be on it already.
    """
    worked_on = wave.verdicts.get(Verdict.PATCHED, 0) + wave.verdicts.get(Verdict.FAILED, 0)
    if worked_on or not wave.machines:
        return ""
    return f"canary wave {number} has shown nothing: none of its machines was patched"


def share(machines: int, percent: float) -> int:
    """Return that share of so many machines, rounded down: 20 % of 9 is 1."""
    return int(machines * percent / 100 + 1e-9)  # 10 * 29.999999999999996 / 100 is 3, not 2


def _of(count: int, among: Tally) -> str:
    return f"{count} of {among.machines} machines"
