"""Checks of the fleetpatch installation: its packages, its libraries and its records."""

import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from flows.composition import read_shard_size
from flows.machine_providers.provider_file import load_providers
from flows.notify.audit_forwarding import find_audit_backlogs, read_targets
from flows.policy.policy_file import load_policy
from flows.recovery.unfinished_runs import find_abandoned_runs
from inventory.errors import InventoryError
from inventory.files.file_trust import TRUSTED_OWNERS_VARIABLE, UntrustedFile, require_trusted_path
from inventory.files.own_keys import KeyFileError
from inventory.loader import find_inventory, load_inventory
from inventory.machine import DEFAULT_SITE
from inventory.name_lists import format_count, join_first_names
from inventory.sites import SITE_VARIABLE, find_environment_site
from tasks.domain.errors import RecordsError, SealBroken
from tasks.domain.model import Finding
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.states import FindingLevel
from tasks.records.audit.deployed_policies import read_deployed_policies
from tasks.records.audit.log import SqlAuditLog
from tasks.records.audit.verification import AuditState, AuditVerification, verify_log
from tasks.records.decisions import SqlDecisions
from tasks.records.left_disks import find_left_disks
from tasks.records.pages_role import PAGES_ROLE, find_excess_privileges, has_pages_role
from tasks.records.provided_machines import SqlProvidedMachines
from tasks.records.queries.connections import read_server_room
from tasks.records.queries.copies import find_left_copies
from tasks.records.queries.history import History
from tasks.records.queries.other_fleets import describe_other_fleets
from tasks.records.setup import open_records
from tasks.records.snapshots import SqlSnapshots
from tasks.records.sql_records import SqlRecords
from tasks.records.storage.database import read_connection_bound
from tasks.reports.formatting import format_size
from tasks.rules.connections import check_connections, count_processes
from tasks.rules.policy.decision import describe_difference
from tasks.rules.runs.snapshots import PROVIDER_CHECK

_NEWEST = 2000
"""Of the audit log doctor checks so many entries. `fleetpatch audit verify` checks all."""
_MAX_DELAY = timedelta(minutes=5)
_SNAPSHOT_DELAY = timedelta(hours=2)
"""So long after their time snapshots may still be there: `reconcile` deletes them."""
PACKAGE_NAMES = ("fleetpatch", "flows", "tasks", "deployments", "inventory")


DISTRIBUTION_NAME = "fleetpatch"


def check_installation(records_url: str | None) -> tuple[Finding, ...]:
    """Check the installation of fleetpatch."""
    return (
        _check_package_location(),
        *_check_package_owners(),
        *_check_requirements(),
        *_check_records(records_url),
        *_check_inventory_owners(),
        *_check_site(),
        *_check_providers(),
    )


def _check_inventory_owners() -> Iterator[Finding]:
    """Check who can have written the inventory that commands read by default, and tell who is trusted besides."""
    check = "owners of files"
    try:
        path = find_inventory()
    except InventoryError:
        return  # without an inventory there are no machines: the command that needs them tells it
    try:
        require_trusted_path(path)
    except UntrustedFile as error:
        yield Finding(check, FindingLevel.BLOCK, f"{path} is not trusted: {error.message}", error.hint)
    except OSError as error:
        yield Finding(check, FindingLevel.BLOCK, f"{path} can't be read: {error.strerror}", "Make it readable.")
    else:
        more = os.environ.get(TRUSTED_OWNERS_VARIABLE, "")
        also = f"; {TRUSTED_OWNERS_VARIABLE} trusts {more} as well" if more else ""
        yield Finding(check, FindingLevel.GOOD, f"nobody else can have written {path}{also}")


def _check_providers() -> Iterator[Finding]:
    """Check the file of providers."""
    with suppress(InventoryError):  # the command that needs an inventory tells what is wrong with it
        inventory = load_inventory(find_inventory())
        try:
            load_providers(inventory)
        except InventoryError as error:
            yield Finding(PROVIDER_CHECK, FindingLevel.BLOCK, error.message, error.hint)


def _check_site() -> Iterator[Finding]:
    """Check the site of this machine, if it has one of its own: with a wrong name, its worker refuses all runs."""
    try:
        site = find_environment_site()
    except InventoryError as error:
        yield Finding("site", FindingLevel.BLOCK, error.message, error.hint)
        return
    with suppress(InventoryError):  # the command that needs an inventory tells what is wrong with it
        if site and site not in {DEFAULT_SITE, *load_inventory(find_inventory()).sites}:
            message = f"this machine is of the site {site} ({SITE_VARIABLE}), and no machine of the inventory is"
            remedy = f"Correct {SITE_VARIABLE}, or the sites of the inventory."
            yield Finding("site", FindingLevel.WARN, message, remedy)


def _check_package_owners() -> Iterator[Finding]:
    """Check that no other distribution has packages of these names in the same environment.

    Installed later, its files have replaced those of fleetpatch, or stand between them.
    """
    owners = importlib.metadata.packages_distributions()
    other_owners = {name: sorted({*owners.get(name, ())} - {DISTRIBUTION_NAME}) for name in PACKAGE_NAMES}
    if not any(other_owners.values()):
        return
    named = "; ".join(
        f"{', '.join(owners_of_name)} has `{name}`" for name, owners_of_name in other_owners.items() if owners_of_name
    )
    remedy = "Install fleetpatch into an environment of its own: pipx install, uv tool install, or a venv."
    message = f"another distribution has packages of the same names in this environment: {named}"
    yield Finding("packages of fleetpatch", FindingLevel.BLOCK, message, remedy)


def _check_package_location() -> Finding:
    """Check that all packages come from one installation.

    The packages have common names: `tasks` of another distribution earlier on the path would be used silently.
    """
    specs = {name: importlib.util.find_spec(name) for name in PACKAGE_NAMES}
    folders = {
        name: Path(spec.origin).resolve().parents[1] if spec is not None and spec.origin else None
        for name, spec in specs.items()
    }
    if len(set(folders.values())) == 1:
        return Finding("packages of fleetpatch", FindingLevel.GOOD, f"all in {folders[PACKAGE_NAMES[0]]}")
    locations = ", ".join(f"{name} in {folder or 'nowhere'}" for name, folder in folders.items())
    remedy = "Install fleetpatch into an environment of its own, and start it from a folder that has no such packages."
    return Finding("packages of fleetpatch", FindingLevel.BLOCK, f"they are not one installation: {locations}", remedy)


def _check_requirements() -> list[Finding]:
    """Check that every library has a supported version. Other versions may seem to work and fail later."""
    try:
        requirements = importlib.metadata.requires(DISTRIBUTION_NAME) or []
    except importlib.metadata.PackageNotFoundError:
        return [Finding("libraries", FindingLevel.WARN, "fleetpatch is not installed, only on the path", "make venv")]
    faults = [fault for text in requirements if (fault := _find_requirement_fault(text))]
    if not faults:
        return [Finding("libraries", FindingLevel.GOOD, f"all {len(requirements)} have versions that were meant")]
    remedy = "Install from the lock file: pip install --require-hashes -r requirements.lock"
    return [Finding("libraries", FindingLevel.BLOCK, fault, remedy) for fault in faults]


def _find_requirement_fault(text: str) -> str:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return f"{text!r} can't be understood"
    if requirement.marker is not None and not requirement.marker.evaluate():
        return ""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    fits = requirement.specifier.contains(version, prereleases=True)
    return "" if fits else f"{requirement.name} {version} is installed; it has to be {requirement.specifier}"


def _check_audit(records: SqlRecords) -> Iterator[Finding]:
    """Check the chain of the audit log, and whether its receivers have its entries."""
    try:
        verification = verify_log(SqlAuditLog(records.database), newest=_NEWEST)
        is_readable = verification.state is not AuditState.UNREADABLE
        backlogs = find_audit_backlogs(records.database, read_targets()) if is_readable else ()
    except KeyFileError as error:
        yield Finding("audit log", FindingLevel.WARN, error.message, error.hint)
        return
    yield _describe_audit(verification)
    now = SystemClock().now()
    for backlog in backlogs:
        if backlog.fault:
            text = f"{backlog.receiver} gets no more entries: {backlog.fault}"
            yield Finding("audit log", FindingLevel.BLOCK, text, "fleetpatch audit verify says what is wrong.")
        elif backlog.oldest_at is not None and now - backlog.oldest_at > _MAX_DELAY:
            oldest = f"{backlog.oldest_at:%Y-%m-%d %H:%M} UTC"
            text = f"{backlog.receiver} lacks {format_count(backlog.count, 'entry')}, the oldest of {oldest}"
            yield Finding("audit log", FindingLevel.WARN, text, "fleetpatch audit send says why.")


def _describe_audit(verification: AuditVerification) -> Finding:
    if verification.state in {AuditState.INTACT, AuditState.EMPTY}:
        return Finding(
            "audit log",
            FindingLevel.GOOD,
            f"{verification.state} ({format_count(verification.entries, 'entry')} checked)",
        )
    level = FindingLevel.WARN if verification.state is AuditState.END_UNKNOWN else FindingLevel.BLOCK
    return Finding("audit log", level, str(verification.state), "fleetpatch audit verify says what is wrong.")


def _check_policy(records: SqlRecords) -> Iterator[Finding]:
    """Check that a process with these settings has a policy that was deployed; nothing where none was."""
    deployed = read_deployed_policies(SqlAuditLog(records.database))
    try:
        policy = load_policy(SystemClock().now().date())
    except InventoryError as error:
        yield Finding("policy", FindingLevel.BLOCK, error.message, error.hint)
        return
    if not deployed:
        return
    if reason := describe_difference(deployed, policy.files):
        yield Finding("policy", FindingLevel.BLOCK, f"no run begins here: {reason}", "docs/reference/policy.md")
    else:
        yield Finding("policy", FindingLevel.GOOD, f"deployed: {', '.join(file.path for file in policy.files)}")


def _check_decisions(records: SqlRecords) -> Iterator[Finding]:
    """Check the chain of decisions; nothing if it is whole."""
    try:
        SqlDecisions(records.database).require_whole()
    except SealBroken as error:
        yield Finding("decisions", FindingLevel.BLOCK, error.message, error.hint)


def _check_pages_role(records: SqlRecords) -> Iterator[Finding]:
    """Check what the pages' role in PostgreSQL may write; nothing where there is no such role."""
    if not has_pages_role(records.database):
        return
    if excess := find_excess_privileges(records.database, PAGES_ROLE):
        message = f"{PAGES_ROLE} can also write {join_first_names(excess)}"
        yield Finding("pages", FindingLevel.WARN, message, "fleetpatch web grant takes it away.")
    else:
        yield Finding("pages", FindingLevel.GOOD, f"{PAGES_ROLE} can write only the pages' own tables")


def _check_records(records_url: str | None) -> Iterator[Finding]:
    """Check the records, and what stands in them. A check to which they give no answer has no finding of its own."""
    try:
        abandoned_runs = [run for run in find_abandoned_runs(records_url) if not run.wait_reason]
        with open_records(records_url) as records:
            history = History(records)
            other_fleets = "" if history.read_runs(1) else describe_other_fleets(history.database)
            findings = []
            for check in _RECORD_CHECKS:
                with suppress(RecordsError):
                    findings += list(check(records))
    except RecordsError as error:
        yield Finding("records", FindingLevel.BLOCK, error.message, error.hint)
        return
    yield Finding("records", FindingLevel.GOOD, "they can be read and written")
    if other_fleets:
        yield Finding("runs", FindingLevel.WARN, "this fleet has none", other_fleets)
    elif abandoned_runs:
        message = f"{len(abandoned_runs)} abandoned: {join_first_names([run.run.id for run in abandoned_runs])}"
        remedy = "fleetpatch reconcile recovers them; --dry-run only lists them."
        yield Finding("runs", FindingLevel.WARN, message, remedy)
    else:
        yield Finding("runs", FindingLevel.GOOD, "none is abandoned")
    yield from findings


def _check_snapshots(records: SqlRecords) -> Iterator[Finding]:
    """Check that no snapshot of a run has outlived its time: snapshots grow, and fill what holds the disks."""
    expired = SqlSnapshots(records.database, records.seals).find_expired(SystemClock().now() - _SNAPSHOT_DELAY)
    if expired:
        first, room = expired[0], sum(row.used_bytes or 0 for row in expired)
        names = join_first_names(sorted({row.machine for row in expired}))
        message = (
            f"{format_count(len(expired), 'snapshot')} should be deleted: {names}; the oldest since "
            f"{first.expires_at:%Y-%m-%d %H:%M} UTC; {format_size(room)} when they were new"
        )
        message += f"; {first.note}" if first.note else ""
        yield Finding("snapshots", FindingLevel.WARN, message, "fleetpatch snapshots delete '*' --expired")


def _check_taken_back(records: SqlRecords) -> Iterator[Finding]:
    """Tell the machines whose disks somebody has taken back, as a run or a person saw it last."""
    losses = SqlProvidedMachines(records.database, records.seals).find_losses()
    for loss in dict.fromkeys(record.loss for record in losses):  # that of a lost key is the same for all
        names = join_first_names([f"{one.machine} ({one.provider})" for one in losses if one.loss == loss])
        message, _, remedy = loss.partition("\n")
        yield Finding("disks", FindingLevel.WARN, f"{names}: {message}", remedy)


def _check_copies(records: SqlRecords) -> Iterator[Finding]:
    """Check that no rehearsal has left a copy of a machine: it runs, and keeps room where the machine's disks are."""
    left = find_left_copies(records.database)
    if left:
        names = join_first_names([f"{copy.id} of {copy.machine}" for copy in left])
        message = f"{format_count(len(left), 'copy')} of machines may be left by runs that are over: {names}"
        message += f"; the oldest since {left[0].began_at:%Y-%m-%d %H:%M} UTC"
        yield Finding(
            "rehearsals", FindingLevel.WARN, message, "fleetpatch reconcile deletes them, or says what is wrong."
        )


def _check_left_disks(records: SqlRecords) -> Iterator[Finding]:
    """Check that no OS disk of before is forgotten: a machine failed with its new one, and was not put back."""
    if left := find_left_disks(records.database):
        names = join_first_names(sorted({disk.machine for disk in left}))
        message = f"{format_count(len(left), 'OS disk')} of before {'is' if len(left) == 1 else 'are'} kept, because "
        message += f"upgrades failed: {names}; the oldest was replaced {left[0].replaced_at:%Y-%m-%d %H:%M} UTC"
        remedy = f"If the machine is healthy: fleetpatch images clean --failed {left[0].machine}"
        yield Finding("OS disks", FindingLevel.WARN, message, remedy)


def _check_connections(records: SqlRecords) -> Iterator[Finding]:
    """Check that the server has room for the connections of a run of all machines; nothing on SQLite."""
    room = read_server_room(records.database)
    if room is not None:
        machines = 0
        with suppress(InventoryError):  # the command that needs an inventory tells what is wrong with it
            machines = len(load_inventory(find_inventory()).machines)
        yield check_connections(room, count_processes(machines, read_shard_size()), read_connection_bound())


_RECORD_CHECKS = (
    _check_connections,
    _check_pages_role,
    _check_audit,
    _check_policy,
    _check_decisions,
    _check_snapshots,
    _check_taken_back,
    _check_copies,
    _check_left_disks,
)
