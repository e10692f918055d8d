"""Updates as lists show them: on one machine, over all machines that lack them, and by the CVEs that they fix."""

from datetime import datetime
from typing import Annotated

from tasks.domain.model import Update
from tasks.domain.rows.columns import Column, row
from tasks.domain.states import Classification


@row
class MissingUpdateRow:
    """An update that a machine lacks."""

    machine: Annotated[str, Column("The machine.", json_name="machineName")]
    name: Annotated[str, Column("Its name.", heading="update", json_name="patchName")]
    title: Annotated[str | None, Column("Its title.", json_name="patchTitle", is_prose=True)]
    arch: Annotated[str, Column('Its architecture; "": it has none.', json_name="architecture")]
    installed: Annotated[str | None, Column("The version that is installed; null: none is.", json_name="versionBefore")]
    available: Annotated[str, Column("The version that is available.", heading="new version", json_name="version")]
    classification: Annotated[
        Classification, Column("Its classification.", json_name="classifications", is_list_in_json=True)
    ]
    severity: Annotated[str, Column('Its severity, in the publisher\'s word; "": it names none.')]
    kb: Annotated[str | None, Column("Its KB number.", heading="KB", json_name="kbId")]
    cves: Annotated[
        tuple[str, ...] | None, Column("The CVEs that it fixes; null: the publisher does not say.", heading="CVEs")
    ]
    origins: Annotated[tuple[str, ...], Column("The repositories that offer it.")]
    size_bytes: Annotated[int | None, Column("The size of its download.", heading="size", unit="bytes")]
    held: Annotated[bool, Column("Whether a hold on the machine excludes it.")]
    blocked: Annotated[str, Column('Why the machine can\'t install it; "": it can.', is_prose=True)]
    needs_licence: Annotated[bool, Column("Whether somebody has to accept its licence.")]
    published: Annotated[datetime | None, Column("When it was published.", json_name="publishedDateTime")]
    since: Annotated[
        datetime | None,
        Column("Since when the machine has lacked it.", heading="missing since", json_name="sinceDateTime"),
    ]
    reason: Annotated[
        str | None, Column("Why it is not installed; null: runs and windows were not looked at.", is_prose=True)
    ]
    run_id: Annotated[str | None, Column("The run that says so.", heading="run", json_name="maintenanceRunId")]


@row
class UpdateRow:
    """An update that some machines lack."""

    name: Annotated[str, Column("Its name.", heading="update", json_name="patchName")]
    title: Annotated[str, Column("Its title.", json_name="patchTitle")]
    kb: Annotated[str, Column("Its KB number.", json_name="kbId")]
    classification: Annotated[
        str, Column("The most urgent of its classifications.", json_name="classifications", is_list_in_json=True)
    ]
    severity: Annotated[str, Column("The worst of its severities.")]
    version: Annotated[str, Column("The newest of the versions that machines are offered.", heading="newest version")]
    other_versions: Annotated[
        int, Column("Other versions that machines are offered.", json_name="otherVersionCount", unit="count")
    ]
    machines: Annotated[int, Column("Machines that lack it.", unit="count")]
    since: Annotated[
        datetime | None,
        Column("Since when the first machine has lacked it.", heading="missing since", json_name="sinceDateTime"),
    ]
    published: Annotated[datetime | None, Column("When it was published.", json_name="publishedDateTime")]
    cves: Annotated[
        int | None, Column("CVEs that it fixes; null: no publisher names them.", json_name="cveCount", unit="count")
    ]
    withheld: Annotated[int, Column("On how many machines it is held or blocked.", unit="count")]


@row
class CveRow:
    """A CVE for which some machines lack a fix."""

    cve: Annotated[str, Column("The CVE.", heading="CVE")]
    updates: Annotated[
        tuple[str, ...],
        Column("The updates that fix it, for the machines that lack one.", heading="fixed by", json_name="patches"),
    ]
    severity: Annotated[str, Column('The worst severity of these updates; "": no machine lacks one.')]
    machines: Annotated[int, Column("Machines that lack a fix.", json_name="machineCount", unit="count")]
    since: Annotated[
        datetime | None,
        Column("Since when the first machine has lacked a fix.", heading="missing since", json_name="sinceDateTime"),
    ]
    published: Annotated[datetime | None, Column("When the first fix was published.", json_name="publishedDateTime")]
    withheld: Annotated[int, Column("On how many machines a fix is held or blocked.", unit="count")]


@row
class CveMachinesRow(CveRow):
    """A CVE, and which machines lack a fix of it."""

    names: Annotated[tuple[str, ...], Column("The machines that lack a fix.", json_name="machines")]


@row
class RecordedUpdateRow:
    """A missing update as the table ``updates`` of queries has it: what columns of the records say."""

    machine: Annotated[str, Column("The machine.", json_name="machineName")]
    name: Annotated[str, Column("Its name.", json_name="patchName")]
    update_id: Annotated[str, Column("Its id on the machine: the name, and more where names are not unique.")]
    arch: Annotated[str, Column('Its architecture; "": it has none.', json_name="architecture")]
    classification: Annotated[str, Column("Its classification.", json_name="classifications", is_list_in_json=True)]
    severity: Annotated[str, Column("Its severity, in the publisher's word.")]
    installed: Annotated[str | None, Column("The version that is installed.", json_name="versionBefore")]
    available: Annotated[str, Column("The version that is available.", json_name="version")]
    kb: Annotated[str, Column('Its KB number; "": it has none.', json_name="kbId")]
    held: Annotated[bool, Column("Whether a hold on the machine excludes it.")]
    blocked: Annotated[str, Column('Why the machine can\'t install it; "": it can.', is_prose=True)]
    published: Annotated[datetime | None, Column("When it was published.", json_name="publishedDateTime")]
    assessed_at: Annotated[datetime | None, Column("When the machine said so.")]
    missing_since: Annotated[
        datetime | None, Column("Since when automatic patching counts it as missing; null: it does not.")
    ]


@row
class UpdateCveRow:
    """A CVE that a version of an update fixes, as the table ``update_cves`` of queries has it."""

    name: Annotated[str, Column("The update's name.", json_name="patchName")]
    version: Annotated[str, Column("The version that fixes it.")]
    cve: Annotated[str, Column("The CVE.", heading="CVE")]


def build_missing_update_row(
    machine: str, update: Update, since: datetime | None, reason: str | None = None, run_id: str = ""
) -> MissingUpdateRow:
    """Return the row of an update that a machine lacks.

    Args:
        machine: the machine's name.
        update: the update, as the machine's newest answer has it.
        since: since when the machine has lacked it.
        reason: why it is not installed; None: runs and windows were not looked at.
        run_id: the run that says so; "" for none.
    """
    return MissingUpdateRow(
        machine=machine,
        name=update.name,
        title=update.title or None,
        arch=update.arch,
        installed=update.installed,
        available=update.available,
        classification=update.classification,
        severity=update.severity or "",
        kb=update.kb or None,
        cves=update.cves,
        origins=update.origins,
        size_bytes=update.size_bytes,
        held=update.held,
        blocked=update.blocked,
        needs_licence=update.needs_licence,
        published=update.published,
        since=since,
        reason=reason,
        run_id=run_id or None,
    )
