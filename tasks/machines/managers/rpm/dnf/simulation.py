"""Turns the answers of rpm_simulate.sh with dnf 4 or dnf 5 into a SimulationResult. Pure."""

from collections.abc import Mapping, Sequence
from posixpath import basename

from tasks.domain.errors import ManagerBusy, ProtocolViolation
from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import SimulationResult
from tasks.domain.protocols.transport import ScriptResult
from tasks.machines.managers.rpm.dnf.assessment import LOCKED_EXIT_CODE
from tasks.machines.managers.rpm.dnf.output_parsers import DnfTransaction, find_specs, parse_transaction
from tasks.machines.managers.rpm.packages import build_package_spec, build_update_id, parse_natural
from tasks.machines.managers.script_output import ScriptSection, parse_sections, require_text
from tasks.machines.managers.simulation import build_simulation_result

_SCRIPT = "rpm_simulate"
_UNCHANGED = "nothing would change"


def parse_simulation(result: ScriptResult, wanted: Sequence[Update]) -> SimulationResult:
    """Return dnf's answer for a set of updates.

    Raises:
        ScriptFailed: the script failed.
        ProtocolViolation: an answer is missing or malformed.
        ManagerBusy: another process had dnf's lock all the time.
    """
    sections = parse_sections(result, _SCRIPT, "simulation")
    simulation = sections["simulation"]
    if simulation.exit_code == LOCKED_EXIT_CODE:
        raise ManagerBusy("another process uses the package manager")
    if not result.find_records("state"):
        raise ProtocolViolation(f"{_SCRIPT} did not say the machine's architecture")
    native = require_text(result.find_records("state")[0], "native")
    return build_transaction_result(parse_transaction(simulation.text), wanted, native, _parse_downloads(sections))


def build_transaction_result(
    transaction: DnfTransaction, wanted: Sequence[Update], native: str, downloads: Mapping[str, int] | None
) -> SimulationResult:
    """Return the answer that a transaction is. Each problem is assigned to the updates that it names."""
    specs = {build_package_spec(update): update.id for update in wanted}
    errors = transaction.errors
    named = frozenset(spec for error in errors for spec in find_specs(error))
    if not errors and not transaction.changes:
        errors = (_UNCHANGED,)
    return build_simulation_result(
        wanted,
        changes={build_update_id(*key, native): version for key, version in transaction.changes.items()},
        removals=transaction.removals,
        unknown={specs[spec] for spec in transaction.unknown_specs if spec in specs},
        errors=errors,
        named={specs[spec] for spec in named & specs.keys()},
        downloads=downloads,
    )


def _parse_downloads(sections: Mapping[str, ScriptSection]) -> Mapping[str, int] | None:
    """Read lines "repository|bytes|file", without the files that are there in full."""
    if "downloads" not in sections or sections["downloads"].exit_code != 0:
        return None
    there: set[tuple[str, int | None]] = set()
    for line in sections["cached"].text.splitlines() if "cached" in sections else ():
        size, _, path = line.partition("\t")
        there.add((basename(path), parse_natural(size)))
    files: dict[str, int] = {}
    for line in sections["downloads"].text.splitlines():
        fields = line.split("|")
        size_bytes = parse_natural(fields[1]) if len(fields) == 3 else None
        if size_bytes is not None and (basename(fields[2]), size_bytes) not in there:
            files[basename(fields[2])] = size_bytes
    return files
