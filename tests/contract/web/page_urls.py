"""The pages that the browser looks at, by route. A page without an entry fails a test."""

from collections.abc import Mapping
from typing import Final

from tests.support.web_fleet_machines import XSS

PAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "/": ("/",),
    "/machines": ("/machines", "/machines?compliance=NonCompliant&q=db&sort=-security", "/machines?q=nothing"),
    "/machines/{name}": ("/machines/web-07", "/machines/app-08", "/machines/fresh-1", "/machines/odd-1"),
    "/updates": ("/updates", "/updates?q=openssl"),
    "/updates/{name}": ("/updates/openssl",),
    "/cves/{cve}": ("/cves/CVE-2025-9230",),
    "/components": ("/components", "/components?standing=Unknown&scope=env%3Dprod"),
    "/images": ("/images",),
    "/snapshots": ("/snapshots", "/snapshots?machine=web-07"),
    "/runs": ("/runs",),
    "/runs/{run_id}": (
        "/runs/{failed}",
        "/runs/{live}",
        "/runs/{dead}",
        "/runs/{waiting}",
        "/runs/{plan}",
        "/runs/{missed}",
        "/runs/{hostile}",
        "/runs/{assessed}",
        "/runs/{sites}",
        "/runs/{shard}",
    ),
    "/runs/{run_id}/machines/{name}": ("/runs/{failed}/machines/web-15", "/runs/{hostile}/machines/odd-1"),
    "/runs/compare": ("/runs/compare?left={warnings}&right={failed}",),
    "/calendar": ("/calendar?month=2026-11", "/calendar?month=2026-12"),
    "/approvals": ("/approvals",),
    "/approvals/{run_id}": ("/approvals/{waiting}",),
    "/maintenance": ("/maintenance",),
    "/maintenance/{group}": ("/maintenance/databases-monthly",),
    "/patch": ("/patch", "/patch?scope=env%3Dprod&window.minutes=x&sent=1"),
    "/assess": ("/assess", "/assess?scope=name%3Dweb-*"),
    "/runs/{run_id}/cancel": ("/runs/{live}/cancel", "/runs/{failed}/cancel"),
    "/runs/{run_id}/resume": ("/runs/{dead}/resume",),
    "/runs/{run_id}/undo": ("/runs/{failed}/undo", "/runs/{failed}/undo?machine=web-15", "/runs/{live}/undo"),
    "/hotpatch": ("/hotpatch", "/hotpatch?hotpatch=Enabled&kind=Arc"),
    "/orders": ("/orders", "/orders?machine=web-07"),
    "/orders/{order_id}": ("/orders/order-1",),
    "/owners": ("/owners", "/owners?owner=os"),
    "/login": ("/login",),
    "/audit": ("/audit",),
    "/events": ("/events",),
    "/compliance": ("/compliance", "/compliance?month=2026-11"),
}
"""``{failed}`` and so on are runs of the sample fleet (see tests/support/web_fleet.py)."""

NO_PAGES: Final[Mapping[str, str]] = {
    "/patch/check": "a part of the form",
    "/starting/{flow_run_id}": "leads to the page of a run that Prefect starts; see test_acts.py",
    "/machines.csv": "a file",
    "/compliance/files": "files",
    "/calendar.ics": "a file for calendars",
    "/health": "for programs",
    "/metrics": "for programs",
    "/session": "for scripts of the pages",
    "/login/oidc": "leads to the login provider; see test_oidc.py",
    "/login/oidc/callback": "comes from the login provider; see test_oidc.py",
    "/live/runs": "a stream of events",
    "/live/runs/{run_id}": "a stream of events",
    "/runs/{run_id}/report": "the report, a page of its own with tests of its own",
}
"""What GET answers that is no page, and why."""

NO_PAGES_BELOW: Final = ("/api/", "/static", "/parts/")

HOSTILE_MACHINE: Final = XSS
