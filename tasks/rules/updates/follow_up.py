"""Another round of a machine: updates that are offered only since others are installed. Pure.

Windows Update tells a machine of some updates only when others are there: of a cumulative update after the servicing
stack that it needs, of others after the cumulative update.
"""

from dataclasses import replace
from typing import Final

from inventory.name_lists import join_first_names
from tasks.domain.model import (
    DurationPrediction,
    ErrorInfo,
    Finding,
    InstallResult,
    MachinePlan,
    PackageState,
    Selection,
    Update,
)
from tasks.rules.updates.selection import select_updates

FOLLOW_UP_CHECK: Final = "newly offered"
"""The check of findings about updates that are offered only since the installation."""
MAX_FOLLOW_UPS: Final = 1
"""How many rounds may follow the first one in a run. Each may need a reboot."""


def find_new_updates(before: PackageState, after: PackageState) -> tuple[Update, ...]:
    """Return the updates that were not offered before, in any version.

    An update that was installed and is offered again is not among them: it is not installed again and again.
    """
    earlier_ids = {update.id for update in before.updates}
    return tuple(update for update in after.updates if update.id not in earlier_ids)


def select_new_updates(
    packages: PackageState, new: tuple[Update, ...], selection: Selection
) -> tuple[tuple[Update, ...], tuple[Update, ...]]:
    """Return the new updates that a selection includes, and those that it includes but for its pinned updates."""
    offered = replace(packages, updates=new)
    included, _ = select_updates(offered, selection)
    if selection.pinned_updates is None:
        return included, ()
    unlimited, _ = select_updates(offered, replace(selection, pinned_updates=None))
    allowed = {update.id for update in included}
    return included, tuple(update for update in unlimited if update.id not in allowed)


def warn_of_new_updates(updates: tuple[Update, ...], why_not: str) -> tuple[Finding, ...]:
    """Return a warning about new updates that this run does not install, or () if there are none."""
    if not updates:
        return ()
    names = join_first_names([update.name for update in updates])
    message = f"offered only now, and not installed: {names}: {why_not}"
    return (Finding.warn(FOLLOW_UP_CHECK, message, "Patch the machine again."),)


def join_plans(first: MachinePlan, second: MachinePlan) -> MachinePlan:
    """Return the plan of both rounds."""
    prediction, two = first.prediction, second.prediction
    names = join_first_names([update.name for update in second.chosen])
    are_bytes_known = first.download_bytes is not None and second.download_bytes is not None
    return replace(
        first,
        chosen=(*first.chosen, *second.chosen),
        skipped=(*first.skipped, *second.skipped),
        prediction=DurationPrediction(
            stage=prediction.stage + two.stage,
            install=prediction.install + two.install,
            reboot=prediction.reboot + two.reboot,
            validate=prediction.validate + two.validate,
            basis=prediction.basis,
        ),
        notes=(*first.notes, f"offered only after the first installation, in a second round: {names}"),
        download_bytes=(first.download_bytes or 0) + (second.download_bytes or 0) if are_bytes_known else None,
    )


def join_installs(first: InstallResult, second: InstallResult | None) -> InstallResult:
    """Return the result of both rounds; ``second`` is None if that round began nothing."""
    if second is None:
        return first
    errors = [install_result.error for install_result in (first, second) if install_result.error is not None]
    measured = [
        install_result
        for install_result in (first, second)
        if install_result.staged_bytes is not None and install_result.staged_seconds is not None
    ]
    return replace(
        second,
        results=(*first.results, *second.results),
        transactions=(*first.transactions, *second.transactions),
        job_ids=(*first.job_ids, *second.job_ids),
        kept_configuration_files=(*first.kept_configuration_files, *second.kept_configuration_files),
        unasked=(*first.unasked, *second.unasked),
        overrun_seconds=max(first.overrun_seconds, second.overrun_seconds),
        error=ErrorInfo(errors[0].kind, "; ".join(error.message for error in errors)) if errors else None,
        staged_bytes=sum(staged.staged_bytes or 0 for staged in measured) if measured else None,
        staged_seconds=sum(staged.staged_seconds or 0.0 for staged in measured) if measured else None,
    )
