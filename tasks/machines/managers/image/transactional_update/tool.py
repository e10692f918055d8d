"""transactional-update: SLE Micro and openSUSE MicroOS. Their updates are packages in a new snapshot. Pure.

zypper reads the running system without changing it. Its tables are read by their headings, which are English with
LC_ALL=C. What the next boot starts is a snapshot: its number is the version. The update is named by a digest of all
pending packages and patches, so that machines with the same ones have the same version.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

from inventory.name_lists import format_count
from tasks.domain.errors import READ_LISTS_REMEDY, ListsUnread, ProtocolViolation
from tasks.domain.model import Update
from tasks.domain.states import Classification
from tasks.machines.managers.image.manager import ImageTool
from tasks.machines.managers.image.state import DIGEST_LENGTH, ImageState, ImageUpdate, clean_image_text
from tasks.machines.managers.repository_problems import build_repository_problem
from tasks.machines.managers.rpm.repositories import find_rpm_repository_problems
from tasks.machines.managers.script_output import ScriptSection
from tasks.machines.managers.tool_errors import describe_failure

_NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+.:~^\-]{0,199}")
_CVE_PATTERN: Final = re.compile(r"CVE-[0-9]{4}-[0-9]{4,9}")
_RULE_PATTERN: Final = re.compile(r"-+(?:\+-+)+")
_SKIPPED_CODE: Final = 106
_SUCCESS_CODES: Final = frozenset({0, 100, 101, 102, 103, _SKIPPED_CODE})
"""zypper's exit codes above 99 inform: updates, a reboot, a restart of zypper, skipped repositories."""
_SEVERITIES: Final = ("low", "moderate", "important", "critical")
Row = Mapping[str, str]


def parse_zypper_table(text: str) -> tuple[Row, ...]:
    """Read zypper's tables: lines of cells separated by "|", below a heading and a rule. Other lines are skipped."""
    rows: list[Row] = []
    heading: list[str] = []
    before = ""
    for line in text.splitlines():
        if _RULE_PATTERN.fullmatch(line.strip()):
            heading = _split(before)
        elif heading and "|" in line and len(cells := _split(line)) >= len(heading):
            rows.append(dict(zip(heading, cells, strict=False)))
        elif not line.strip():
            heading = []
        before = line
    return tuple(rows)


def _split(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")]


def parse_snapshot_state(sections: Mapping[str, ScriptSection]) -> ImageState:
    """Return what snapshots there are and what zypper would update.

    Raises:
        ListsUnread: zypper has no list of the repositories' packages.
        ProtocolViolation: an answer is missing or not valid.
    """
    for name in ("system", "updates", "patches", "cves"):
        if name not in sections:
            raise ProtocolViolation(f"image_assess said nothing about {name}")
    system = dict(line.split("=", 1) for line in sections["system"].text.splitlines() if "=" in line)
    running, default = system.get("running", ""), system.get("default", "")
    if not (_is_number(running) and _is_number(default)):
        raise ProtocolViolation(
            describe_failure(f"the snapshots of the system are not known: {system!s:.200}", sections["system"].stderr)
        )
    for name in ("updates", "patches"):
        if sections[name].exit_code not in _SUCCESS_CODES:
            error_text = clean_image_text(sections[name].stderr or sections[name].text[-300:])
            raise ListsUnread(f"zypper can't read its repositories: {error_text}", hint=READ_LISTS_REMEDY)
    staged = frozenset(sections["installed"].text.splitlines()) if "installed" in sections else frozenset()
    listed = dict.fromkeys(filter(None, map(_format_package, parse_zypper_table(sections["updates"].text))))
    pending = [package for package in listed if package not in staged]
    # the patches are those of the running system; a snapshot with none of the packages fulfils none of them
    is_fulfilled = running != default and (not listed or len(pending) < len(listed))
    patches = [
        row
        for row in parse_zypper_table(sections["patches"].text)
        if row.get("Status") == "needed" and _NAME_PATTERN.fullmatch(row.get("Name", "")) and not is_fulfilled
    ]
    problems = find_rpm_repository_problems(f"{sections['updates'].text}\n{sections['updates'].stderr}")
    if not problems and sections["updates"].exit_code == _SKIPPED_CODE:  # it has no data, or they have expired
        problems = (build_repository_problem("", ["zypper skipped repositories that it could not read"]),)
    return ImageState(
        image=clean_image_text(system.get("product", "") or "system"),
        running=f"snapshot {running}",
        next=f"snapshot {default}",
        update=_build_update(pending, patches, sections["cves"]) if pending or patches else None,
        problems=problems,
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _format_package(row: Row) -> str:
    """Return "NAME-VERSION.ARCH" of a row of list-updates, or "" if it is none."""
    parts = (row.get("Name", ""), row.get("Available Version", ""), row.get("Arch", ""))
    return "{}-{}.{}".format(*parts) if all(map(_NAME_PATTERN.fullmatch, parts)) else ""


def _build_update(packages: Sequence[str], patches: Sequence[Row], cves: ScriptSection) -> ImageUpdate:
    names = sorted({row["Name"] for row in patches})
    digest = sha256("\n".join((*sorted(packages), *names)).encode()).hexdigest()[:DIGEST_LENGTH]
    counts = [format_count(len(packages), "package")] if packages else []
    counts += [format_count(len(names), "patch")] if names else []
    version = f"{', '.join(counts)} ({digest})"
    security = [row.get("Severity", "").lower() for row in patches if row.get("Category") == "security"]
    if not patches:
        return ImageUpdate(version)
    worst = max((_SEVERITIES.index(severity) for severity in security if severity in _SEVERITIES), default=-1)
    severity = _SEVERITIES[worst] if worst >= 0 else ""
    kind = Classification.SECURITY if security else Classification.OTHER
    return ImageUpdate(
        version,
        Classification.CRITICAL if severity == "critical" else kind,
        severity=severity,
        advisories=tuple(reversed(names)),
        cves=tuple(sorted(set(_CVE_PATTERN.findall(cves.text)))) if cves.exit_code in _SUCCESS_CODES else None,
    )


def is_snapshot_installed(state: ImageState, update: Update) -> bool:
    """Return whether the next boot starts another snapshot, in which nothing is pending.

    Another pending set is not enough: somebody else's snapshot may wait, or an update may just have been published.
    """
    return state.next != update.installed and state.update is None


TRANSACTIONAL_UPDATE: Final = ImageTool(
    name="transactional-update",
    package="tasks.machines.managers.image.transactional_update",
    parse_state=parse_snapshot_state,
    no_update_codes=(_SKIPPED_CODE,),  # zypper has skipped repositories
    partial_failure="Some of the repositories have not been refreshed",
    timers=("transactional-update.timer",),
    lock_files=("/run/tukit.lock",),
    is_installed=is_snapshot_installed,
)
