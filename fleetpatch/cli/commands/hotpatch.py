"""hotpatch status, enroll, unenroll, enable and disable: the enrolment for hotpatches and live patches."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from fleetpatch.cli.app import (
    ALL_MACHINES,
    AtOnceOption,
    DryRunOption,
    InventoryOption,
    JsonOption,
    RecordsOption,
    ScopeArgument,
    YesOption,
    app,
)
from fleetpatch.cli.runtime.acting_command import ActingCommand
from fleetpatch.cli.runtime.output import print_json_or_text
from inventory.errors import PASSWORD_FORMS

if TYPE_CHECKING:
    from flows.hotpatch.licences import LicenceProvider
    from flows.hotpatch.overview import HotpatchRow
    from inventory.machine import Machine
    from tasks.domain.protocols.clock import Clock
    from tasks.rules.hotpatch import EnrolmentRequest

hotpatch_app = typer.Typer(
    help="Show and change the enrolment for hotpatches (Windows) and live patches (Linux).", no_args_is_help=True
)
app.add_typer(hotpatch_app, name="hotpatch", rich_help_panel="Patch")

ArcOption = Annotated[
    str | None,
    typer.Option(
        "--arc",
        metavar="GROUP",
        help="Ask Azure Arc for licences of Windows Server 2025: /subscriptions/ID/resourceGroups/NAME. "
        "Changes take $FLEETPATCH_AZURE_ARC without it.",
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--arc-token",
        metavar="REF",
        help=f"Where Azure's access token is: {PASSWORD_FORMS}. Default: $FLEETPATCH_AZURE_ARC_TOKEN, else "
        "env:AZURE_ACCESS_TOKEN.",
    ),
]


@hotpatch_app.command("status")
def show_status(
    scope: ScopeArgument = ALL_MACHINES,
    arc: ArcOption = None,
    arc_token: TokenOption = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the enrolment of machines, with what they lack, from the last assessment. Contacts no machine."""
    from fleetpatch.cli.runtime.machine_selection import load_machines_in_scope
    from fleetpatch.cli.views.hotpatch import build_status_json, print_statuses
    from flows.hotpatch.baseline_file import load_baseline_calendar
    from tasks.domain.protocols.clock import SystemClock

    clock = SystemClock()
    calendar = load_baseline_calendar()
    machines = load_machines_in_scope(inventory, scope)[1]
    rows = _read_rows(machines, records, clock)
    provider = _open_arc(arc, arc_token, clock) if arc is not None else None
    if provider is not None:
        rows = _add_licences(rows, machines, provider, clock)
    stale = calendar.describe_age(clock.now().date())
    print_json_or_text(as_json, build_status_json, print_statuses, rows, stale)


_CHANGES = {
    "enroll": "Enrol machines, so that they receive hotpatches or live patches.",
    "unenroll": "End the enrolment of machines. Windows can be enrolled again, with effect from the next baseline on.",
    "enable": "Let enrolled machines receive hotpatches or live patches again.",
    "disable": "Keep the enrolment of machines, but let them receive no hotpatches or live patches.",
}
"""The verbs that change machines, with their help."""


def _add_change_command(verb: str, description: str) -> None:
    @hotpatch_app.command(verb, cls=ActingCommand, help=description)
    def change(
        scope: ScopeArgument,
        yes: YesOption = False,
        dry_run: DryRunOption = False,
        arc: ArcOption = None,
        arc_token: TokenOption = None,
        at_once: AtOnceOption = 20,
        inventory: InventoryOption = None,
        records: RecordsOption = None,
        as_json: JsonOption = False,
    ) -> None:
        from fleetpatch.cli.runtime.machine_order import order_change
        from fleetpatch.cli.views.hotpatch import CHANGE_FACTS

        order_change(
            f"hotpatch {verb}",
            f"{verb.capitalize()} {{}}?",
            CHANGE_FACTS,
            scope,
            yes=yes,
            dry_run=dry_run,
            at_once=at_once,
            inventory=inventory,
            records=records,
            as_json=as_json,
            arc=(arc, arc_token),
        )


for _verb, _description in _CHANGES.items():
    _add_change_command(_verb, _description)


def _open_arc(group: str | None, token: str | None, clock: "Clock") -> "LicenceProvider | None":
    from flows.composition import read_own_secret
    from flows.hotpatch.arc_settings import find_azure_arc

    return find_azure_arc(read_own_secret, clock, group, token)


def _read_rows(machines: "Sequence[Machine]", records: str | None, clock: "Clock") -> "list[HotpatchRow]":
    from fleetpatch.cli.runtime.run_lookup import open_history
    from flows.hotpatch.baseline_file import load_baseline_calendar
    from flows.hotpatch.overview import build_hotpatch_overview
    from tasks.records.queries.machines import read_hotpatch_enrolments

    names = [machine.name for machine in machines]
    enrolments = read_hotpatch_enrolments(open_history(records).database)
    requests, today = read_enrolment_requests(names, records), clock.now().date()
    overview = build_hotpatch_overview(names, enrolments, requests, load_baseline_calendar(), today)
    return [overview[name] for name in names]


def read_enrolment_requests(names: Sequence[str], records: str | None) -> "Mapping[str, EnrolmentRequest]":
    """Return what people last asked for on each of these machines."""
    from tasks.records.hotpatch_enrolments import SqlHotpatchEnrolments
    from tasks.records.setup import open_records

    with open_records(records) as database:
        return SqlHotpatchEnrolments(database.database).read_requests(names)


def _add_licences(
    rows: "Sequence[HotpatchRow]", machines: "Sequence[Machine]", provider: "LicenceProvider", clock: "Clock"
) -> "list[HotpatchRow]":
    """Return the rows with what a licence provider says of the machines that get their licence from it."""
    from flows.hotpatch.baseline_file import load_baseline_calendar
    from flows.hotpatch.changes import PROVIDER_SECONDS, apply_licence, read_licences
    from flows.hotpatch.licences import Licence
    from flows.hotpatch.overview import build_row
    from tasks.domain.protocols.clock import Deadline
    from tasks.domain.states import HotpatchStatus

    names = {row.machine for row in rows if row.enrolment and row.enrolment.means == "arc"}
    arc_machines = [machine for machine in machines if machine.name in names]
    licences = read_licences(arc_machines, provider, lambda: Deadline.after(clock, PROVIDER_SECONDS))
    calendar, today = load_baseline_calendar(), clock.now().date()

    def add(row: "HotpatchRow") -> "HotpatchRow":
        licence = licences.get(row.machine)
        if licence is None:
            return row
        if not isinstance(licence, Licence):
            return replace(row, provider_words=f"not known: {licence.message}")
        enrolment, licence_text = apply_licence(row.enrolment, licence), licence.state or "no licence"
        machine_row = build_row(row.machine, enrolment, row.request, calendar, today, licence_text)
        if licence.is_changing:
            return replace(machine_row, status=HotpatchStatus.PENDING)
        # somebody may have cancelled it in the portal
        is_canceled = licence.is_canceled and machine_row.status is HotpatchStatus.NOT_ENROLLED
        return replace(machine_row, status=HotpatchStatus.CANCELED) if is_canceled else machine_row

    return [add(row) for row in rows]
