"""Turns zypper's dry run for a set of updates into a SimulationResult. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tasks.domain.errors import ProtocolViolation
from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import SimulationResult
from tasks.domain.protocols.transport import ScriptResult
from tasks.machines.managers.rpm.packages import build_package_spec, build_update_id
from tasks.machines.managers.rpm.zypper.install_summary import InstallSummary, parse_install_summary
from tasks.machines.managers.rpm.zypper.xml_answer import ZypperAnswer, parse_answer
from tasks.machines.managers.script_output import ScriptSection, parse_sections, require_text
from tasks.machines.managers.simulation import build_simulation_result

_UNKNOWN_PATTERN: Final = re.compile(r"No provider of '([^']{1,400})' found|[Pp]ackage '([^']{1,400})' not found")


def parse_simulation(result: ScriptResult, wanted: Sequence[Update]) -> SimulationResult:
    """Return what zypper would do if it installed these updates.

    Raises:
        ScriptFailed: the script failed.
        ManagerBusy: another process has zypper's lock.
        ProtocolViolation: zypper's answer is not complete.
    """
    sections = parse_sections(result, "rpm_simulate", "simulation")
    states = result.find_records("state")
    if len(states) != 1:
        raise ProtocolViolation("rpm_simulate did not say the machine's architecture")
    answer = parse_answer(sections["simulation"], "the installation")
    summary = parse_install_summary(answer)
    refusals = summary.refusals
    specs = {build_package_spec(update): update.id for update in wanted}
    return build_simulation_result(
        wanted,
        changes=_find_changes(summary, require_text(states[0], "native")),
        removals=summary.removals,
        unknown=_find_unknown_updates(answer, specs),
        errors=refusals,
        named=_find_named(refusals, specs) if refusals else (),
        downloads=_find_downloads(summary, sections.get("cached")),
    )


def _find_changes(summary: InstallSummary, native: str) -> Mapping[str, str]:
    return {build_update_id(change.name, change.arch, native): change.version for change in summary.changes}


def _find_unknown_updates(answer: ZypperAnswer, specs: Mapping[str, str]) -> tuple[str, ...]:
    named = [name for text in answer.errors for match in _UNKNOWN_PATTERN.findall(text) for name in match]
    return tuple(dict.fromkeys(specs[name] for name in named if name in specs))


def _find_named(refusals: Sequence[str], specs: Mapping[str, str]) -> Iterator[str]:
    """Yield the id of each update of which a refusal names the package and version, or the licence."""
    for spec, update_id in specs.items():
        named = re.compile(rf"(?<![\w.+-]){re.escape(spec)}(?![\w+-])|^the licence of {re.escape(update_id)} must ")
        if any(map(named.search, refusals)):
            yield update_id


def _find_downloads(summary: InstallSummary, cached: ScriptSection | None) -> Mapping[str, int] | None:
    """Return file -> bytes. zypper only tells the sum: the first file has it, the others have 0."""
    if cached is None or summary.download_bytes is None:
        return None
    have = set(cached.text.splitlines())
    names = [f"{change.name}-{change.version.rpartition(':')[2]}.{change.arch}.rpm" for change in summary.changes]
    missing = [name for name in names if name not in have] if summary.download_bytes else []
    return {name: summary.download_bytes if name == missing[0] else 0 for name in missing}
