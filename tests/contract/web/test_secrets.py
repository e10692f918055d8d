"""No page, route of the API or feed shows a secret, wherever a user may have put one."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from fleetpatch.access.roles import Role
from flows.request.patch_request import PatchRequest
from tasks.records import page_schema, schema
from tasks.records.machine_orders import SqlMachineOrders
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.contract.web.page_urls import NO_PAGES, PAGES
from tests.support.fake_clock import FakeClock
from tests.support.web_fleet import SampleFleet, fill_site
from tests.support.web_people import admit_people, person
from tests.support.web_site import Site, serve_site

EVERYBODY = person("root", *Role)
ORDER = "0b9d9c1e-4d0e-4b0f-9d75-6a2f5e6d7c11"
SECRET = re.compile(r"hunter2[A-Z]{4}[0-9]{2}")
"""Every secret of these tests looks like this, so that a page can be searched for all of them at once."""

ENVIRONMENT = {
    "WINDOWS_PASSWORD": "hunter2ENVI01",
    "SUDO_PASSWORD": "hunter2ENVI02",
    "KEY_PASSPHRASE": "hunter2ENVI03",
    "NOTIFY_URL": "https://chat.example.net/services/hunter2ENVI04?token=hunter2ENVI05",
    "WEBHOOK_KEY": "hunter2ENVI06",
    "TICKET_TOKEN": "hunter2ENVI07",
    "PREFECT_API_KEY": "hunter2ENVI08",
    "PREFECT_API_AUTH_STRING": "admin:hunter2ENVI09",
    "FLEETPATCH_RECORDS_URL": "postgresql://fp:hunter2ENVI10@db.example.net/fp",
    "FLEETPATCH_HOOK_ENVIRONMENT": "TICKET_TOKEN",
}
RECORDS_URL = "postgresql://fp:hunter2RECO01@db.example.net:5432/fp?sslpassword=hunter2RECO02"
HTTP_HOOK = "https://fp:hunter2HOOK01@hooks.example.net:8443/services/hunter2HOOK02?token=hunter2HOOK03"

_LITERALS = {
    "a password": "credential: hunter2FILE01",
    "a password of a key": "credential: key:~/.ssh/id?passphrase=hunter2FILE02",
    "a password of an unknown kind": "credential: plain:hunter2FILE03",
    "a password for sudo": "privilege_password: hunter2FILE04",
    "a field that does not exist": "password: hunter2FILE05",
    "a password that is no text": "credential: {value: hunter2FILE06}",
    "a list of passwords": "privilege_password: [hunter2FILE07]",
}
_CONFIGURATIONS = {
    "a notification's URL": "notify: [{to: 'https://chat.example.net/hunter2CONF01'}]",
    "a notification's URL in a place of its own": "notify: 'mailto://me:hunter2CONF02@example.net'",
    "a webhook's key": "notify: [{to: env:NOTIFY_URL, kind: webhook, key: hunter2CONF03}]",
    "a field that does not exist": "notify: [{to: env:NOTIFY_URL, token: hunter2CONF04}]",
    "a hook that is not complete": "hooks: {before_run: [{name: x, target: 'https://a:hunter2CONF05@b/c'}]}",
    "a hook whose URL is no URL": "hooks: {before_run: [{name: x, kind: http, target: 'ftp://a:hunter2CONF06@b'}]}",
    "a hook in a wrong place": "hooks: {before_run: [{name: x, kind: machine-command, target: x -u hunter2CONF07}]}",
    "a hook of a wrong kind": "hooks: {before_run: [{name: x, kind: python, target: 'https://b/hunter2CONF08'}]}",
    "a hook's target that is no text": "hooks: {before_run: [{name: x, kind: http, target: 'https://[hunter2CONF09'}]}",
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, SampleFleet]]:
    """The sample fleet, with secrets everywhere where they are allowed."""
    place = tmp_path_factory.mktemp("secrets")
    with pytest.MonkeyPatch.context() as patch:
        admit_people(patch)
        fleet = fill_site(place)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        _write_secret_files(place)
        _put_secrets_into_files(place)
        _put_secrets_into_records(place, fleet)
        with serve_site(place, clock=FakeClock(fleet.now), records_url=RECORDS_URL) as site:
            yield site, fleet


def _write_secret_files(place: Path) -> None:
    for name, text in (("password", "hunter2DISK01"), ("key.pem", "-----BEGIN KEY-----\nhunter2DISK02")):
        (place / name).write_text(text)
        (place / name).chmod(0o600)


def _put_secrets_into_files(place: Path) -> None:
    inventory = place / "fleet.yaml"
    text = inventory.read_text().replace(
        "  credential: key:~/.ssh/id_ed25519",
        f"  credential: key:{place}/key.pem?passphrase=env:KEY_PASSPHRASE\n  privilege_password: env:SUDO_PASSWORD",
    )
    stage = "groups: [db], environment: stage"
    text = text.replace(stage, f"{stage}, credential: file:{place}/password")
    assert "SUDO_PASSWORD" in text
    assert f"file:{place}/password" in text
    inventory.write_text(text)
    configurations = place / "configurations" / "all.yaml"
    more = (
        f"    hooks: {{before_run: [{{name: ticket, kind: http, target: '{HTTP_HOOK}'}}]}}\n"
        "    notify: [{to: env:NOTIFY_URL, kind: webhook, key: env:WEBHOOK_KEY}]\n"
    )
    line = "    description: Web and application servers, after an approval.\n"
    text = configurations.read_text()
    assert line in text
    configurations.write_text(text.replace(line, line + more))


def _put_secrets_into_records(place: Path, fleet: SampleFleet) -> None:
    """Give every run the request that the configuration makes, as a real run records it; and log somebody in."""
    asked = PatchRequest.model_validate(
        {
            "scope": "*",
            "hooks": {"before_run": [{"name": "ticket", "kind": "http", "target": HTTP_HOOK}]},
            "notify": [{"to": "env:NOTIFY_URL", "kind": "webhook", "key": "env:WEBHOOK_KEY"}],
        }
    ).model_dump(mode="json")
    with open_records(f"sqlite:///{place / 'records.db'}") as records:
        history = History(records)
        for run_id in fleet.runs.values():
            run = history.find_run(run_id)
            wanted = replace(run, request={**run.request, "hooks": asked["hooks"], "notify": asked["notify"]})
            with records.database.begin_write("put a secret into a run") as connection:
                row = connection.execute(select(schema.runs.c.document).where(schema.runs.c.id == run_id)).scalar_one()
                document = {**json.loads(row), "request": wanted.request}
                query = update(schema.runs).where(schema.runs.c.id == run_id)
                connection.execute(query.values(document=json.dumps(document)))
            assert "hunter2HOOK02" in json.dumps(history.find_run(run_id).request["hooks"])
        SqlMachineOrders(records.database).begin(ORDER, "updaters off", "web-07", "anna", fleet.now)
        with records.database.begin_write("log somebody in") as connection:
            token = {"name": "root", "digest": "hunter2TOKE01", "roles": "view", "created_by": "x"}
            connection.execute(page_schema.access_tokens.insert().values(**token, created_at=fleet.now))
            login = dict.fromkeys(("roles", "source", "subject", "seal"), "x") | {
                "digest": "hunter2TOKE02",
                "name": "root",
            }
            times = dict.fromkeys(("created_at", "used_at", "checked_at"), fleet.now)
            row = {**login, **times, "expires_at": fleet.now + timedelta(days=1), "ticket": "hunter2TICK01"}
            connection.execute(page_schema.web_sessions.insert().values(row))


def list_paths(site: Site, fleet: SampleFleet) -> list[str]:
    """Return everything that GET answers here."""
    pages = [url.format(**fleet.runs) for urls in PAGES.values() for url in urls]
    runs = [f"/runs/{run_id}{tail}" for run_id in fleet.runs.values() for tail in ("", "/report")]
    files = ["/machines.csv", "/calendar.ics", "/health", "/metrics", "/patch/check?scope=*"]
    files += [f"/compliance/files?form={form}" for form in ("html", "csv", "parquet")]
    machines = [f"/machines/{name}" for name in ("stage-db-1", "win-1", "db-01.fra1.example.net")]
    return [*pages, *runs, *files, *machines, "/api/v1/openapi.json", *_list_api_paths(site, fleet)]


def _list_api_paths(site: Site, fleet: SampleFleet) -> Iterator[str]:
    given = {
        "name": ["stage-db-1", "win-1", "web-07"],
        "cve": ["CVE-2025-9230"],
        "run_id": list(fleet.runs.values()),
        "order_id": [ORDER],
        "group": ["databases-monthly"],
    }
    for path, routes in site.get("/api/v1/openapi.json", headers=EVERYBODY).json()["paths"].items():
        if "get" not in routes or "flow_run_id" in path:  # that one asks Prefect
            continue
        parameter = re.search(r"\{(\w+)\}", path)
        for value in given[parameter[1]] if parameter else [""]:
            yield f"/api/v1{path.replace(parameter[0], value) if parameter else path}"


def find_secrets(answer: Any) -> set[str]:
    """Return the secrets in an answer or its headers."""
    return set(SECRET.findall(answer.content.decode(errors="replace"))) | set(SECRET.findall(str(answer.headers)))


def test_nothing_that_is_served_has_a_secret(sample: tuple[Site, SampleFleet]) -> None:
    site, fleet = sample
    paths = list_paths(site, fleet)
    assert len(paths) > 80
    for path in paths:
        answer = site.get(path, headers=EVERYBODY)
        assert answer.status_code in {200, 400}, f"{path}: {answer.status_code}"
        assert find_secrets(answer) == set(), path


@pytest.mark.parametrize("path", ["/live/runs", "/live/runs/{live}"])
def test_no_stream_has_a_secret(sample: tuple[Site, SampleFleet], path: str) -> None:
    site, fleet = sample
    assert path.partition("{")[0].rstrip("/") in {each.partition("{")[0].rstrip("/") for each in NO_PAGES}
    with site.client.stream("GET", path.format(**fleet.runs), headers=EVERYBODY) as answer:
        assert answer.status_code == 200
        first = next(answer.iter_text())
    assert first
    assert SECRET.search(first) is None


def test_an_api_report_still_says_which_hooks_a_run_had(sample: tuple[Site, SampleFleet]) -> None:
    site, fleet = sample
    found = site.get(f"/api/v1/runs/{fleet.runs['failed']}", headers=EVERYBODY).json()

    (hook,) = found["run"]["request"]["hooks"]["before_run"]
    assert (hook["name"], hook["target"]) == ("ticket", "https://hooks.example.net:8443/***")


@pytest.mark.parametrize("what", _LITERALS)
def test_a_secret_in_the_inventory_by_mistake_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    text = f"machines:\n  - name: a\n    address: 10.0.0.1\n    {_LITERALS[what]}\n"
    (tmp_path / "fleet.yaml").write_text(text)
    _check_problem(tmp_path, monkeypatch, "fleet.yaml")


@pytest.mark.parametrize("what", _CONFIGURATIONS)
def test_a_secret_in_a_configuration_by_mistake_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    (tmp_path / "fleet.yaml").write_text("machines: [{name: a, address: 10.0.0.1}]\n")
    (tmp_path / "configurations").mkdir()
    text = (
        "configurations:\n  - name: weekly\n    scope: '*'\n"
        "    window: {start: 2026-01-02 02:00, length: 2h, zone: UTC, recurrence: Week Friday}\n"
        f"    {_CONFIGURATIONS[what]}\n"
    )
    (tmp_path / "configurations" / "all.yaml").write_text(text)
    _check_problem(tmp_path, monkeypatch, "all.yaml")


def _check_problem(place: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    """Check that the pages say that this file has a problem, and none of its secrets."""
    admit_people(monkeypatch)
    with serve_site(place) as site:
        assert file in site.get("/", headers=EVERYBODY).text
        for path in (
            "/",
            "/machines",
            "/updates",
            "/calendar",
            "/calendar.ics",
            "/patch?scope=*",
            "/assess",
            "/metrics",
        ):
            assert find_secrets(site.get(path, headers=EVERYBODY)) == set(), path
        assert find_secrets(site.get("/api/v1/overview", headers=EVERYBODY)) == set()
