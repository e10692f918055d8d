"""All outputs, for `python -m tests.golden take FOLDER`."""

import io
import zipfile
from pathlib import Path

import pytest

from tests.golden.outputs import Outputs
from tests.golden.page_text import read_page_text
from tests.golden.worlds import PAGES, list_commands, month_world, sample_world, serve_world, take_commands

pytestmark = pytest.mark.usefixtures("built_command")
READING = (
    "machines",
    "machines env=prod",
    "machines name=nothing",
    "updates",
    "updates --urgent",
    "updates --by machine",
    "runs",
    "runs --kind patch -n 5",
    "approvals",
    "approvals {waiting}",
    "audit list",
    "calendar",
    "calendar --machine web-07 --next 5",
    "automatic --all",
    "automatic explain rhel-1",
    "compliance --all",
    "sets",
    "policy explain web-07",
    "inventory list",
    "inventory check",
    "config check",
    "history",
    "hotpatch status",
    "updaters status",
    "components list",
    "maintenance list",
    "maintenance show databases-monthly",
    "events list --all",
    "orders",
    "unlock web-07",
    "why web-07",
    "why web-07 openssl",
    "why web-15",
    "why web-11",
    "why fresh-1",
    "why rhel-1",
    "why suse-1",
    "why win-1",
    "why nobody",
    "show nothing",
    "settings",
)
MACHINES_OF_RUN = ("web-15", "web-07")
TABLES = (
    "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns ORDER BY ALL",
    "SELECT * FROM machines ORDER BY ALL LIMIT 12",
    "SELECT * FROM runs ORDER BY ALL LIMIT 12",
)


def test_commands(tmp_path: Path) -> None:
    with sample_world(tmp_path) as world:
        outputs = Outputs("all-commands", tmp_path)
        take_commands(world, outputs, READING)
        for what in world.runs:
            take_commands(world, outputs, (f"show {{{what}}}",))
        for machine in MACHINES_OF_RUN:
            take_commands(world, outputs, (f"show {{failed}} --machine {machine}",))
        take_commands(world, outputs, ("show {failed} --journal", "show {failed} --machine web-15 --log"))
        outputs.add("config schema", world.run("config", "schema"))
        outputs.add("inventory schema", world.run("inventory", "schema"))
        outputs.finish()


def test_queries(tmp_path: Path) -> None:
    with sample_world(tmp_path) as world:
        outputs = Outputs("all-queries", tmp_path)
        for sql in TABLES:
            outputs.add(f"{sql}.200", world.run("query", sql, columns=200))
        names = world.run("query", "SELECT table_name FROM information_schema.tables ORDER BY ALL", "--csv")
        for name in names.splitlines()[2:]:
            if name.startswith("---"):
                break
            sql = f'SELECT * FROM "{name}" ORDER BY ALL LIMIT 25'
            outputs.add(f"{name}.csv", world.run("query", sql, "--csv"))
            outputs.add(f"{name}.json", world.run("query", sql.replace("25", "5"), "--json"))
            outputs.add(f"{name}.count", world.run("query", f'SELECT count(*) FROM "{name}"', "--csv"))
        outputs.finish()


def test_reports(tmp_path: Path) -> None:
    with sample_world(tmp_path) as world:
        outputs = Outputs("all-reports", tmp_path)
        for what in ("failed", "warnings", "plan", "hostile", "missed", "assessed"):
            run_id = world.runs[what]
            outputs.add(f"{what}.told", world.run("report", run_id, "--to", str(tmp_path / "reports")))
            for file in sorted((tmp_path / "reports" / run_id).rglob("*.*")):
                if file.is_file():
                    outputs.add_file(f"{what}.{file.name.replace(run_id, 'RUN')}", file.read_bytes())
        outputs.finish()


def test_month(tmp_path: Path) -> None:
    with month_world(tmp_path) as world, serve_world(world) as (site, _):
        outputs = Outputs("all-month", tmp_path)
        outputs.add("page", read_page_text(site.get("/compliance?month=2026-11").text))
        archive = zipfile.ZipFile(io.BytesIO(site.get("/compliance/files?month=2026-11&form=csv").content))
        for name in sorted(archive.namelist()):
            outputs.add_file(f"download.{name}", archive.read(name))
        outputs.finish()


def test_pages(tmp_path: Path) -> None:
    with sample_world(tmp_path) as world, serve_world(world) as (site, _):
        outputs = Outputs("all-pages", tmp_path)
        for urls in PAGES.values():
            for url in urls:
                answer = site.get(url.format(**world.runs))
                outputs.add(url, f"{answer.status_code}\n{read_page_text(answer.text)}")
        for url in ("/machines.csv", "/calendar.ics", "/health", "/nothing", "/runs/{failed}/report"):
            answer = site.get(url.format(**world.runs))
            is_page = "html" in answer.headers["content-type"]
            outputs.add(url, f"{answer.status_code}\n{read_page_text(answer.text) if is_page else answer.text}")
        outputs.finish()


def test_api(tmp_path: Path) -> None:
    with sample_world(tmp_path) as world, serve_world(world) as (site, headers):
        outputs = Outputs("all-api", tmp_path)
        paths = [
            *("/overview", "/machines", "/machines?q=db&sort=-security", "/updates", "/windows", "/runs"),
            *("/approvals", "/audit", "/cves/CVE-2025-9230", "/openapi.json", "/machines/nobody", "/runs/nothing"),
            *(f"/machines/{name}" for name in ("web-07", "web-11", "web-15", "rhel-1", "suse-1", "win-1", "fresh-1")),
            *(f"/runs/{{{what}}}" for what in world.runs),
            *(f"/runs/{{{what}}}/progress" for what in ("live", "dead", "failed", "waiting")),
        ]
        for path in paths:
            answer = site.get(f"/api/v1{path.format(**world.runs)}", headers=headers)
            outputs.add_json(path, answer.text)
        outputs.add("metrics", site.get("/metrics", headers=headers).text)
        outputs.finish()


def test_help(tmp_path: Path) -> None:
    with sample_world(tmp_path) as world:
        outputs = Outputs("all-help", tmp_path)
        for command in list_commands():
            if command == "prefect":  # becomes Prefect's own command
                continue
            outputs.add(f"fleetpatch {command}", world.run(*command.split(), "--help"))
        outputs.finish()
