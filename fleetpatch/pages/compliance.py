"""The compliance of a month: the document for auditors as a page, and its files."""

import io
import threading
import zipfile
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

from fastapi import Query, Request
from fastapi.responses import HTMLResponse, Response

from fleetpatch.web.authentication import build_viewers_router
from fleetpatch.web.context import WebContext, get_context
from fleetpatch.web.rendering import render_page
from flows.compliance.document import ALL_MACHINES, find_sla_days, make_compliance_document
from tasks.domain.errors import FleetpatchError, RecordsError
from tasks.reports.compliance.files import build_file_name, build_values, render_compliance_files
from tasks.rules.compliance.model import ComplianceDocument, Month

router = build_viewers_router()

MAX_AGE: Final = timedelta(minutes=5)
"""How long a document is shown before it is computed again: a large fleet's takes seconds."""
MAX_DOCUMENTS: Final = 8
_MAX_ROWS: Final = 100
_MAX_SCOPE: Final = 2000

MonthQuery = Annotated[
    str, Query(max_length=7, description="As in 2026-11; empty: the last month that is over, or the first one.")
]
ScopeQuery = Annotated[str, Query(max_length=_MAX_SCOPE, description="The machines; empty: all.")]


class ComplianceDocumentCache:
    """Keeps the documents that were asked for last. All threads may share it; one computes at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._documents: OrderedDict[tuple[str, str], ComplianceDocument] = OrderedDict()

    def read(self, context: WebContext, month: Month, scope: str, now: datetime) -> ComplianceDocument:
        """Return the document of a month.

        Raises:
            InventoryError: the scope is not valid, or selects no machine.
            RecordsError: the records can't be read.
            RequestError: the month has not begun.
        """
        key = (str(month), scope)
        with self._lock:
            document = self._documents.get(key)
            if document is None or not timedelta(0) <= now - document.made_at < MAX_AGE:
                document = self._documents[key] = _make_document(context, month, scope, now)
            self._documents.move_to_end(key)
            while len(self._documents) > MAX_DOCUMENTS:
                self._documents.popitem(last=False)
            return document


def _make_document(context: WebContext, month: Month, scope: str, now: datetime) -> ComplianceDocument:
    fleet = context.fleet.read()
    automatic = fleet.configurations.automatic if fleet.configurations is not None else None
    sla = find_sla_days("", automatic.to_policy().due_days if automatic is not None else None)
    return make_compliance_document(context.records, fleet.inventory, scope, month, sla, now)


def _get_documents(request: Request) -> ComplianceDocumentCache:
    state = request.app.state
    if not hasattr(state, "compliance_documents"):  # two threads at once: one of the two is kept, which does no harm
        state.compliance_documents = ComplianceDocumentCache()
    compliance_documents: ComplianceDocumentCache = state.compliance_documents
    return compliance_documents


@router.get("/compliance")
def show_compliance(request: Request, month: MonthQuery = "", scope: ScopeQuery = "") -> HTMLResponse:
    """Show the compliance of a month."""
    context = get_context(request)
    now = context.clock.now()
    present = Month.of(now)
    document, problems = None, list(context.fleet.read().problems)  # they change what the document says
    oldest = context.history.find_oldest_run()
    # Of a new fleet, only the present month says something.
    chosen = present.previous if oldest is not None and oldest.started_at < present.start else present
    try:
        chosen = Month.parse(month) if month else chosen
        document = _get_documents(request).read(context, chosen, scope.strip() or ALL_MACHINES, now)
    except RecordsError:
        raise
    except FleetpatchError as error:  # what was asked for is wrong: the form stays, and says so
        problems.append(f"{error.message}. {error.hint}")
    return render_page(
        request,
        "compliance.html.j2",
        status=200 if document is not None else 400,
        problems=problems,
        month=chosen,
        present=present,
        scope=scope.strip(),
        **(build_values(document, _MAX_ROWS) if document is not None else {"document": None}),
    )


@router.get("/compliance/files")
def download_compliance(
    request: Request,
    month: MonthQuery = "",
    scope: ScopeQuery = "",
    form: Annotated[Literal["html", "csv", "parquet"], Query(description="The format.")] = "html",
) -> Response:
    """Give the document as an HTML file, or its tables as a ZIP file of CSV or Parquet files."""
    context = get_context(request)
    now = context.clock.now()
    chosen = Month.parse(month) if month else Month.of(now).previous
    document = _get_documents(request).read(context, chosen, scope.strip() or ALL_MACHINES, now)
    files, name = render_compliance_files(document, (form,)), build_file_name(document)
    if form == "html":
        return _attach(files[f"{name}.html"], f"{name}.html", "text/html; charset=utf-8")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file_name, body in files.items():
            archive.writestr(file_name, body)
    return _attach(packed.getvalue(), f"{name}-{form}.zip", "application/zip")


def _attach(body: bytes, name: str, media_type: str) -> Response:
    """Return a download. The name has no character that needs quoting: see ``build_file_name``."""
    return Response(body, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'})
