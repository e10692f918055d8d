"""Whether installed critical and security updates are in effect: nothing runs their old files any more. Pure.

A package manager knows what is installed, and not what runs. So an assessment is compared with the one before: what was
pending then and is not now was installed in between, by this run or by others. What runs replaced files since, and a
reboot that is required since, wait for these updates. If other updates were among them, it is not known which of them
wait. Windows tells itself which updates wait for their reboot.
"""

from collections.abc import Sequence

from inventory.name_lists import format_count, join_first_names
from tasks.domain.model import Assessment, Facts, PackageState, Update, WaitingFixes
from tasks.domain.states import YesNoUnknown
from tasks.rules.machine_checks.services import drop_updaters, join_first_services


def find_waiting_fixes(
    packages: PackageState, facts: Facts | None, previous: Assessment | None, installed: Sequence[Update] | None = None
) -> WaitingFixes | None:
    """Return the critical and security updates that are installed and not in effect, or None.

    Args:
        packages: the package state now.
        facts: of the machine now.
        previous: the assessment before; with ``installed``, the one from before the installation, in the boot of then.
        installed: what this run has installed since; None: what is no longer pending counts.
    """
    before = previous.packages if previous is not None else None
    if packages.waiting is not None or before is None or previous is None or previous.facts is None or facts is None:
        return packages.waiting
    is_same_boot = bool(facts.boot_id) and facts.boot_id == previous.facts.boot_id
    left = {(update.id, update.installed) for update in packages.updates}
    vanished = [update for update in before.updates if (update.id, update.installed) not in left]
    since = vanished if installed is None else installed
    urgent, earlier = [update for update in since if update.classification.is_urgent], before.waiting
    is_known = installed is not None and len(urgent) == len(since)
    services = drop_updaters(packages) if is_same_boot or installed is None else ()
    kept = tuple(n for n in services if earlier is not None and is_same_boot and n in earlier.services)
    new = [name for name in services if name not in before.services_to_restart or not is_same_boot]
    needs_reboot = packages.reboot.answer is YesNoUnknown.YES and not packages.reboot.mitigated_by
    is_reboot_new = before.reboot.answer is not YesNoUnknown.YES
    booting = [update.name for update in urgent if update.requires_reboot or update.changes_boot]
    waited = needs_reboot and earlier is not None and earlier.needs_reboot
    waiting = WaitingFixes(
        updates=tuple(sorted({*booting, *(earlier.updates if waited and earlier else ())})) if needs_reboot else (),
        services=services if urgent else kept,
        needs_reboot=waited or (needs_reboot and bool(urgent) and (is_reboot_new or bool(booting))),
        is_certain=bool(
            (urgent and is_known and is_same_boot and new)
            or (needs_reboot and booting and (is_reboot_new or installed is not None))
            or (needs_reboot and urgent and is_known and is_reboot_new)
            or (earlier is not None and earlier.is_certain and is_same_boot and (kept or waited))
        ),
    )
    return waiting if waiting.services or waiting.needs_reboot else None


def judge_effect(packages: PackageState) -> tuple[YesNoUnknown, str]:
    """Return whether the installed critical and security updates are in effect, and what they wait for.

    Unknown: something waits for a restart or a reboot, and whether one of them does is not known.
    """
    services, reboot = drop_updaters(packages), packages.reboot
    if packages.waiting is not None:
        answer = YesNoUnknown.NO if packages.waiting.is_certain else YesNoUnknown.UNKNOWN
        return answer, describe_waiting(packages.waiting)
    runs = ("still runs", "still run")
    parts = [f"{format_count(len(services), 'service', runs)} replaced files"] if services else []
    if reboot.answer is not YesNoUnknown.NO and not reboot.mitigated_by:
        is_due = reboot.answer is YesNoUnknown.YES
        parts.append("a reboot is required" if is_due else "whether it must reboot is not known")
    return (YesNoUnknown.UNKNOWN, "; ".join(parts)) if parts else (YesNoUnknown.YES, "")


def describe_waiting(waiting: WaitingFixes) -> str:
    """Return which fixes wait, and for what, as a sentence."""
    fixes = f"{format_count(len(waiting.updates), 'fix')} ({join_first_names(waiting.updates)})"
    subject = fixes if waiting.updates and not waiting.services else "critical or security updates"
    state = "installed, not in effect" if waiting.is_certain else "installed, perhaps not in effect"
    causes = [f"replaced files still run in {join_first_services(waiting.services)}"] if waiting.services else []
    causes += ["a reboot is required"] if waiting.needs_reboot else []
    return f"{subject} {state}: {'; '.join(causes)}"
