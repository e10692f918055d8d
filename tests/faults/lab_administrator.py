"""Named faults on real machines: an administrator changes packages too, and no reboot of ours ends that half-way."""

from collections.abc import Callable, Iterator
from functools import partial

from tasks.domain.states import OperationState, RebootState
from tests.faults.controllers import Broken
from tests.faults.stage import Stage
from tests.lab.engine import configured_times

BOOTS = ("lab-plain", "lab-reboot")
GOOD = (OperationState.SUCCEEDED, OperationState.COMPLETED_WITH_WARNINGS)
NOTE = "/root/administrator"
SECONDS = 25


def begins(stage: Stage, command: str = "", *, seconds: int = SECONDS) -> None:
    """Let an administrator install lab-slow by himself; how that went is noted.

    Without a command of the case, packages are being changed when this returns: on busy cores that takes a while.
    """
    stage.slow(stage.host, seconds)
    is_at_work = f"for _ in $(seq 300); do pgrep -fx 'sleep {seconds}' >/dev/null && break; sleep 0.2; done"
    wait = "sleep 3" if command else is_at_work
    command = command or f"{stage.family.refresh}; {stage.family.install_patiently}"
    body = f"{command}; echo $? >{NOTE}; sync"
    stage.host.sh(f"rm -f {NOTE}; systemd-run --quiet --unit=administrator sh -c '{body}'; {wait}", root=True)


def is_whole(stage: Stage) -> None:
    """What the administrator did came to its good end, once, and nothing is half done."""
    wait = f"for _ in $(seq 280); do [ -e {NOTE} ] && break; sleep 1; done; cat {NOTE}"
    said = [*stage.host.sh(wait, root=True, timeout=300).split(), stage.host.half_done_packages()]
    if said != ["0", ""] or configured_times(stage.host, "lab-slow", "2.0") != 1:
        raise Broken(f"the administrator's transaction did not end well: {said}")


def at_work(at: str, stage: Stage) -> None:
    """An administrator's transaction at a step: ours waits, and then all is done."""
    stage.patch(*BOOTS, at=at, then=partial(begins, stage))
    stage.judge()
    is_whole(stage)
    outcome = stage.outcome()
    if outcome.state not in GOOD or outcome.reboot is not RebootState.COMPLETED:
        raise Broken(f"{outcome.state}, reboot {outcome.reboot}: {outcome.reason}")


def told_of(stage: Stage, *words: str) -> None:
    """The reboot waited, and says for whom."""
    result = stage.outcome().reboot_result
    if result is None or not all(word in result.reason for word in words):
        raise Broken(f"told as {result}")


def at_reboot(stage: Stage) -> None:
    """As above, as the reboot comes due."""
    at_work("reboot", stage)
    told_of(stage, f"{stage.family.worker} (pid ", stage.family.lock, "(waited ")


def before_an_early_reboot(stage: Stage) -> None:
    """A reboot was pending and is taken first, as an administrator is at work."""
    stage.host.sh("touch /run/reboot-required", root=True)
    stage.patch("lab-plain", at="precheck", then=partial(begins, stage), reboot_pending_first=True)
    stage.judge()
    is_whole(stage)
    if stage.outcome().reboot is not RebootState.COMPLETED or stage.outcome().state not in GOOD:
        raise Broken(f"{stage.outcome().state}: {stage.outcome().reason}")


def never_ends(stage: Stage) -> None:
    """The administrator's transaction waits for an answer that nobody gives."""
    boot = stage.host.boot_id()
    strike = partial(begins, stage, seconds=200)
    stage.patch(*BOOTS, at="reboot", then=strike, minutes=3, reboot="Always", stage=False)
    stage.judge()
    outcome = stage.outcome()
    if stage.host.boot_id() != boot or (stage.host.root / NOTE.lstrip("/")).exists():
        raise Broken("the administrator's transaction did not outlast the run")
    if (outcome.state, outcome.reboot) != (OperationState.COMPLETED_WITH_WARNINGS, RebootState.REQUIRED):
        raise Broken(f"{outcome.state}, reboot {outcome.reboot}: {outcome.reason}")
    if f"{stage.family.worker} (pid " not in outcome.reason:
        raise Broken(outcome.reason)
    is_whole(stage)  # the answer, at last


def begins_too_late(stage: Stage) -> None:
    """An administrator begins when the machine has taken the order on: he is turned away, and nothing is half done."""
    stage.host.sh(stage.family.refresh, root=True)
    taken = f"until grep -qs taken /run/fleetpatch-reboot; do sleep 0.1; done; {stage.family.install}"
    stage.patch(*BOOTS, at="reboot", then=partial(begins, stage, taken, seconds=0))
    stage.judge()
    note = stage.host.root / NOTE.lstrip("/")
    said = note.read_text().strip() if note.exists() else ""
    turned_away = said in stage.family.turned_away if stage.family.turned_away else said != "0"
    if not turned_away or stage.host.half_done_packages():
        raise Broken(f"an administrator began on a machine that was going down: {said}")
    if stage.versions("lab-slow") != {"lab-slow": "1.0"}:
        raise Broken("lab-slow was changed")
    if stage.outcome().reboot is not RebootState.COMPLETED or stage.outcome().state not in GOOD:
        raise Broken(f"{stage.outcome().state}: {stage.outcome().reason}")


def inhibited(stage: Stage) -> None:
    """Somebody asks that the machine stays up for a while."""
    hold = f"systemd-inhibit --what=shutdown --who=backup --why=nightly --mode=block sleep {SECONDS}"
    strike = f"systemd-run --quiet --unit=inhibitor {hold}; sleep 1"
    stage.patch(*BOOTS, at="reboot", then=lambda: stage.host.sh(strike, root=True))
    stage.judge()
    if stage.outcome().reboot is not RebootState.COMPLETED:
        raise Broken(f"{stage.outcome().state}: {stage.outcome().reason}")
    told_of(stage, "backup (pid ", "nightly", "(waited ")


def administrator_cases() -> Iterator[tuple[str, Callable[[Stage], None]]]:
    """Return the cases by name."""
    for at in ("assess", "install", "validate"):
        yield f"administrator's transaction / {at}", partial(at_work, at)
    yield "administrator's transaction / reboot", at_reboot
    yield "administrator's transaction, early reboot / reboot", before_an_early_reboot
    yield "administrator's transaction never ends / reboot", never_ends
    yield "administrator begins too late / reboot", begins_too_late
    yield "inhibitor lock held / reboot", inhibited
