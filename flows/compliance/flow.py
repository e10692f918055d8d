"""The flow report_compliance: writes the compliance document of a month, and sends it."""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from pydantic import Field

from flows.compliance.document import find_sla_days, make_compliance_document, send_compliance_document
from flows.composition import read_credential
from flows.ports.caller import current_caller
from flows.prefect_api.connected_flow import flow
from flows.prefect_runtime.run_log import log_to_flow_run
from inventory.loader import find_inventory, load_inventory
from tasks.domain.errors import ReportError
from tasks.domain.protocols.clock import SystemClock
from tasks.records.setup import open_records
from tasks.reports.compliance.files import write_compliance_files
from tasks.reports.report_directory import find_report_directory
from tasks.rules.compliance.model import Month


@flow(name="report-compliance", persist_result=False)
def report_compliance(
    month: str = "",
    scope: str = "*",
    inventory: Path | None = None,
    sla_days: str = "",
    policy_days: Annotated[float | None, Field(gt=0, le=365)] = None,
    directory: Path | None = None,
    send: list[str] = [],  # noqa: B006 - never changed; a form's default
    web_url: str = "",
) -> list[str]:
    """Write the compliance document of a month as HTML, CSV and Parquet, and send it.

    Args:
        month: the month, as in 2026-11. Empty: the last month that is over.
        scope: the machines.
        inventory: inventory file or folder. Empty: as every command finds it.
        sla_days: days until a fix must be installed, as in critical=7,security=30. Empty: policy_days, or that.
        policy_days: the days of the policy of automatic patching.
        directory: the directory of the documents. Empty: the user's data folder.
        send: references to Apprise URLs: env:NAME, file:/path or block:NAME.
        web_url: the address of fleetpatch web, for a link.

    Returns:
        The files that were written.

    Raises:
        InventoryError: the inventory or the scope is not usable.
        RecordsError: the records can't be read.
        ReportError: the document can't be written, or it could not be sent to everybody.
        RequestError: the month or the days are not valid.
    """
    caller, now = log_to_flow_run(current_caller()), SystemClock().now()
    wanted_month = Month.parse(month) if month else Month.of(now).previous
    sla = find_sla_days(sla_days, policy_days)
    with open_records(caller.records_url) as records:
        loaded_inventory = load_inventory(find_inventory(inventory))
        document = make_compliance_document(records, loaded_inventory, scope, wanted_month, sla, now)
    written = write_compliance_files(document, find_report_directory(directory))
    if send:
        html = next(path for name, path in written.items() if name.endswith(".html"))
        link = f"{web_url.rstrip('/')}/compliance?month={wanted_month}&scope={quote(scope, safe='')}" if web_url else ""
        unsent = send_compliance_document(document, html, send, link, read_credential, caller.listener.on_message)
        if unsent:
            raise ReportError(f"the document is written, but was not sent to everybody: {'; '.join(unsent)}")
    caller.listener.on_message(
        f"the compliance document of {wanted_month} was written to {next(iter(written.values())).parent}"
    )
    return [str(path) for path in written.values()]
