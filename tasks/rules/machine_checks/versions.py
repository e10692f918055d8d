"""Checks after the installation whether the machine still has what was installed. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tasks.model import Finding, InstallResult, UpdateResult
from tasks.rules.machine_checks.findings import build_blocker, build_good_finding
from tasks.states import UpdateState

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
    count: int, wrong: Mapping[str, str | None], rolled_back: Mapping[str, str | None]
) -> list[Finding]:
    """Return findings about updates that are not at the version that was installed.

    Args:
        count: number of installed updates.
        wrong: update id -> version now.
        rolled_back: those of ``wrong`` that a reboot has rolled back.
    """
    if not wrong:
        return [build_good_finding(_CHECK, f"{count} updates are at their new version")]
    others = ", ".join(sorted(set(wrong) - set(rolled_back))[:_MAX_NAMES])
    findings = []
    if rolled_back:
        names = "; ".join(
            f"{name} is at {rolled_back[name]} again" if rolled_back[name] else f"{name} is not installed any more"
            for name in sorted(rolled_back)[:_MAX_NAMES]
        )
        remedy = "Read why it did not start: the log of the boot before, and its health checks."
        findings.append(build_blocker(_CHECK, f"rolled back during the boot: {names}", remedy))
    if others:
        message = f"not at the version that was installed: {others}"
        findings.append(build_blocker(_CHECK, message, "Look at who changed them."))
    return findings


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
        if result.update.id in lost and result.state is UpdateState.INSTALLED
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
