"""Shows the audit log and the result of its check: as tables or JSON."""

from collections.abc import Mapping, Sequence

from fleetpatch.cli.runtime.exit_codes import ExitCode
from fleetpatch.cli.runtime.output import print_to_stderr, print_to_stdout, print_unwrapped, to_safe_text
from fleetpatch.cli.runtime.table import build_table
from inventory.name_lists import format_count
from tasks.domain.rows.audit import AuditEntry
from tasks.records.audit.verification import AuditState, AuditVerification
from tasks.reports.export.tabular_formats import build_row_json
from tasks.reports.formatting import format_details, format_second_utc


def print_audit(entries: Sequence[AuditEntry]) -> None:
    """Print a table of audit entries."""
    if not entries:
        print_to_stderr("The audit log has no such entry.")
        return
    table = build_table("NUMBER", "WHEN", "WHO", "BY", "CLAIMED", "FROM", "ACT", "OF", "RESULT", "WHY")
    for entry in entries:
        about = f"{entry.subject} {format_details(entry.detail)}".strip()
        names = (str(entry.number), format_second_utc(entry.at), entry.who, entry.source, entry.claimed)
        table.add_row(*map(to_safe_text, (*names, entry.address, entry.act, about, str(entry.result), entry.message)))
    print_to_stdout(table)


_STATE_TEXTS = {
    AuditState.INTACT: "The audit log is intact.",
    AuditState.END_UNKNOWN: "The chain is intact. Whether its newest entries are gone is not known: this computer has "
    "never written to this log. Give the last entry that another one knows: --head NUMBER:SEAL.",
    AuditState.EMPTY: "The audit log is empty.",
    AuditState.BROKEN: "The audit log is BROKEN.",
    AuditState.CUT_SHORT: "The audit log is CUT SHORT.",
    AuditState.KEY_MISSING: "The audit log can't be checked: its key is missing.",
    AuditState.UNREADABLE: "The audit log can't be checked.",
}


AUDIT_EXIT_CODES = {
    AuditState.INTACT: ExitCode.SUCCESS,
    AuditState.END_UNKNOWN: ExitCode.WARNINGS,
    AuditState.EMPTY: ExitCode.WARNINGS,
    AuditState.BROKEN: ExitCode.MACHINE_FAILED,
    AuditState.CUT_SHORT: ExitCode.MACHINE_FAILED,
    AuditState.KEY_MISSING: ExitCode.CANNOT_RUN,
    AuditState.UNREADABLE: ExitCode.CANNOT_RUN,
}


def print_verification(verification: AuditVerification) -> None:
    """Print the result of a check."""
    print_unwrapped(_STATE_TEXTS[verification.state])
    if verification.message:
        print_unwrapped(verification.message)
    for fault in verification.faults:
        print_unwrapped(f"entry {fault.number} {fault.text}")
    if verification.fault_count > len(verification.faults):
        print_unwrapped(f"and {verification.fault_count - len(verification.faults)} more faults")
    if verification.last is not None:
        print_unwrapped(
            f"{format_count(verification.entries, 'entry')}: {verification.first} to {verification.last.number}"
        )
        print_unwrapped(f"head: {verification.last.number}:{verification.last.seal}")
    for cut in verification.cuts:
        person = cut.who or "somebody unknown"
        print_unwrapped(f"cut at {format_second_utc(cut.at)} by {person}: {cut.subject}, {cut.message}")
    if verification.state in {AuditState.BROKEN, AuditState.CUT_SHORT}:
        print_to_stderr("If you know why: fleetpatch audit cut NUMBER --accept-faults --reason TEXT records it.")


def build_verification_json(verification: AuditVerification) -> Mapping[str, object]:
    """Return the result of a check as JSON data."""
    return {
        "state": verification.state.value,
        "message": verification.message,
        "entries": verification.entries,
        "first": verification.first,
        "head": {"number": verification.last.number, "seal": verification.last.seal}
        if verification.last is not None
        else None,
        "faults": [{"number": fault.number, "text": fault.text} for fault in verification.faults],
        "faultCount": verification.fault_count,
        "cuts": list(map(build_row_json, verification.cuts)),
    }
