"""What dnf or yum would do: its words about a transaction (with LC_ALL=C), and the answer of a simulation. Pure.

Lines that are not understood are ignored; ``parse_transaction`` raises nothing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from posixpath import basename
from typing import Final

from inventory.data_class import dataclass
from tasks.domain.errors import ManagerBusy
from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import SimulationResult
from tasks.domain.protocols.transport import ScriptResult
from tasks.machines.managers.manager_base import build_simulation_result
from tasks.machines.managers.rpm.packages import build_rpm_spec, build_update_id
from tasks.machines.managers.script_output import (
    ScriptSection,
    get_text,
    parse_natural,
    parse_sections,
    require_native,
    split_rows,
)

LOCKED_EXIT_CODE: Final = 200
"""dnf's exit code, with exit_on_lock, while another process has its lock."""
_CHANGE_PATTERN: Final = re.compile(r"---> Package (\S+)\.([^.\s]+) (\S+) will be (?:an? )?(\w+)")
_END_PATTERN: Final = re.compile(r"^(?:Operation aborted|Nothing to do)", re.MULTILINE)
"""What a simulation ends with."""
_SPEC_PATTERN: Final = re.compile(r"[A-Za-z0-9_][\w.+~^:\-]*-[^-\s]+-[^-\s]+\.[a-z0-9_]+")
_EXCLUDED_BEGINNINGS: Final = ("All matches were filtered out", "Argument '", "Packages for argument '")
"""What dnf 4 and dnf 5 say of a package that an exclusion, a lock or a module hides."""
_SKIPPED_REPOSITORY: Final = "no cache for '"
"""What dnf says of a repository that was never read, before it goes on without it."""
_MAX_TEXT: Final = 300


@dataclass(frozen=True, slots=True)
class DnfTransaction:
    """What dnf would do."""

    # (name, architecture) -> version that it would install.
    changes: Mapping[tuple[str, str], str] = field(default_factory=dict)
    # Those of ``changes`` that replace no older version, and packages of other names.
    obsoleters: frozenset[tuple[str, str]] = frozenset()
    # Names of the packages that it would remove, or replace by others that obsolete them.
    removals: tuple[str, ...] = ()
    unknown_specs: tuple[str, ...] = ()  # arguments that match no package
    errors: tuple[str, ...] = ()  # why it refuses, one text for each problem
    is_resolved: bool = False  # whether it found out what it would do. Otherwise a missing change says nothing.


def parse_transaction(text: str) -> DnfTransaction:
    """Read what ``dnf -v --assumeno`` says about a transaction: its lines "---> Package …", and its errors."""
    changes: dict[tuple[str, str], str] = {}
    installs, removals = set[tuple[str, str]](), list[tuple[str, str]]()
    obsoleters = set[tuple[str, str]]()
    newest = None  # what a package replaces comes right after it
    for match in _CHANGE_PATTERN.finditer(text):
        name, arch, version, action = match.groups()
        if action in {"installed", "upgrade", "downgrade", "reinstalled"}:
            changes[name, arch] = version
            newest = (name, arch)
        if action == "installed":
            installs.add((name, arch))
        elif action in {"erased", "obsoleted"}:
            removals.append((name, arch))
            if action == "obsoleted" and newest in installs:
                obsoleters.add(newest)
    unknown = re.findall(r"^No match for argument: (\S+)", text, re.MULTILINE)
    # an old kernel goes beside its new one; a package of another architecture is not the same one
    removed_names = tuple(name for name, arch in removals if not {(name, arch), (name, "noarch")} & changes.keys())
    return DnfTransaction(
        changes,
        frozenset(obsoleters),
        removed_names,
        tuple(dict.fromkeys(unknown)),
        _parse_errors(text),
        is_resolved=bool(changes or _END_PATTERN.search(text)),
    )


def _parse_errors(text: str) -> tuple[str, ...]:
    """Return each "Problem" with its explanations, and each "Error:" that is not only their heading."""
    errors: list[str] = []
    for line in text.splitlines():
        if line.startswith((" Problem", "Problem")):
            errors.append(line.partition(":")[2].strip())
        elif line.startswith("  - ") and errors:
            errors[-1] += f"; {line[4:].strip()}"
        elif line.startswith(_EXCLUDED_BEGINNINGS):
            errors.append(line.strip())
        elif line.startswith("Error:") and line[6:].strip() and _SKIPPED_REPOSITORY not in line:
            errors.append(line[6:].strip())
    return tuple(error[:1000] for error in dict.fromkeys(errors))


def find_specs(text: str) -> frozenset[str]:
    """Return the packages NAME-VERSION-RELEASE.ARCH that a text mentions."""
    return frozenset(_SPEC_PATTERN.findall(text))


_SCRIPT = "rpm_simulate"


def parse_dnf_simulation(result: ScriptResult, wanted: Sequence[Update]) -> SimulationResult:
    """Return dnf's answer for a set of updates. Each problem is assigned to the updates that it names.

    Raises:
        ScriptFailed: the script failed.
        ProtocolViolation: an answer is missing or malformed.
        ManagerBusy: another process had dnf's lock all the time.
    """
    sections = parse_sections(result, _SCRIPT, "simulation")
    simulation = sections["simulation"]
    if simulation.exit_code == LOCKED_EXIT_CODE:
        raise ManagerBusy("another process uses the package manager")
    native = require_native(result, _SCRIPT)
    transaction = parse_transaction(simulation.text)
    specs = {build_rpm_spec(update): update.id for update in wanted}
    named = frozenset(spec for error in transaction.errors for spec in find_specs(error))
    errors = transaction.errors or (() if transaction.changes else ("nothing would change",))
    return build_simulation_result(
        wanted,
        changes={build_update_id(*key, native): version for key, version in transaction.changes.items()},
        removals=transaction.removals,
        unknown={specs[spec] for spec in transaction.unknown_specs if spec in specs},
        errors=errors,
        named={specs[spec] for spec in named & specs.keys()},
        downloads=_parse_downloads(sections),
    )


def _parse_downloads(sections: Mapping[str, ScriptSection]) -> Mapping[str, int] | None:
    """Read lines "repository|bytes|file", without the files that are there in full."""
    if "downloads" not in sections or sections["downloads"].exit_code != 0:
        return None
    cached = {(basename(path), parse_natural(size)) for size, path in split_rows(get_text(sections, "cached"), 2)}
    files: dict[str, int] = {}
    for line in sections["downloads"].text.splitlines():
        fields = line.split("|")
        size_bytes = parse_natural(fields[1]) if len(fields) == 3 else None
        if size_bytes is not None and (basename(fields[2]), size_bytes) not in cached:
            files[basename(fields[2])] = size_bytes
    return files
