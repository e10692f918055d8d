"""Checks after the installation whether the machine still has what was installed. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tasks.domain.model import Finding, InstallResult, Update, UpdateResult
from tasks.domain.states import INSTALLED_UPDATE_STATES, UpdateState
from tasks.rules.machine_checks.findings import build_blocker, build_good_finding

_CHECK = "versions"
_MAX_NAMES = 10


def find_lost_updates(installed: Sequence[UpdateResult], wrong: Mapping[str, str | None]) -> Mapping[str, str | None]:
    """Return the updates that the machine no longer has after its reboot: update id -> version now.

    One that is not there now, and was there before, is not among them: perhaps it is only not complete.

    Args:
        installed: results of the updates that were installed.
        wrong: update id -> version now, for those that are not at the version that was installed.
    """
    before = {result.update.id: result.update.installed for result in installed}
    return {name: now for name, now in wrong.items() if now is not None or before[name] is None}


def find_rolled_back_updates(
    installed: Sequence[UpdateResult], wrong: Mapping[str, str | None]
) -> Mapping[str, str | None]:
    """Return the updates that are back at the version of before: update id -> that version, None for none.

    A reboot can do that: a system that could not start as updated, or failed its health check, falls back to the state
    of before.

    Args:
        installed: results of the updates that were installed.
        wrong: update id -> version now, for those that are not at the version that was installed.
    """
    before = {result.update.id: result.update.installed for result in installed}
    return {name: now for name, now in wrong.items() if now == before[name]}


def check_installed_versions(
    installed: Sequence[UpdateResult], wrong: Mapping[str, str | None], rolled_back: Mapping[str, str | None]
) -> list[Finding]:
    """Return findings about updates that are not at the version that was installed.

    Args:
        installed: results of the updates that were installed.
        wrong: update id -> version now.
        rolled_back: those of ``wrong`` that a reboot has rolled back.
    """
    if not wrong:
        return [
            build_good_finding(
                _CHECK,
                "1 update is at its new version"
                if len(installed) == 1
                else f"{len(installed)} updates are at their new version",
            )
        ]
    labels = {result.update.id: _label_update(result.update) for result in installed}
    others = ", ".join(sorted(labels[update_id] for update_id in set(wrong) - set(rolled_back))[:_MAX_NAMES])
    findings = []
    if rolled_back:
        names = "; ".join(
            f"{label} is at {now} again" if now else f"{label} is not installed any more"
            for label, now in sorted((labels[update_id], now or "") for update_id, now in rolled_back.items())[
                :_MAX_NAMES
            ]
        )
        remedy = "Read why it did not start: the log of the boot before, and its health checks."
        findings.append(build_blocker(_CHECK, f"rolled back during the boot: {names}", remedy))
    if others:
        message = f"not at the version that was installed: {others}"
        findings.append(build_blocker(_CHECK, message, "Look at who changed them."))
    return findings


def _label_update(update: Update) -> str:
    """Return the id, which has the architecture, or the name if the id is only a number for the machine."""
    return update.id if update.name in update.id else update.name


def mark_lost(install: InstallResult | None, lost: Mapping[str, str | None]) -> InstallResult | None:
    """Return the result of an installation, in which updates that the machine has no more after its reboot have failed.

    Args:
        install: the result so far.
        lost: update id -> version now, for those that are not at the version that was installed.
    """
    if install is None or not lost:
        return install
    results = tuple(
        replace(
            result,
            state=UpdateState.FAILED,
            reason=_describe_loss(result, lost[result.update.id]),
            version_after=lost[result.update.id],
        )
        if result.update.id in lost and result.state in INSTALLED_UPDATE_STATES
        else result
        for result in install.results
    )
    return replace(install, results=results)


def _describe_loss(result: UpdateResult, now: str | None) -> str:
    if now is None:
        return "rolled back during the boot: it is not installed any more"
    if now == result.update.installed:
        return f"rolled back during the boot: {now} runs again"
    return f"the machine has {now} after the reboot, not {result.version_after}"
