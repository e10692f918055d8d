"""The console command's verbs of the server, and what the server's side takes from Prefect."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.server.probe import compute_next_date
from deployments.server.settings import PREFECT_SETTINGS, build_environment
from deployments.server.snapshot import ScheduleInfo
from flows.prefect_api.server_settings import SettingTarget
from tests.support.command import run_command
from tests.support.environment import without_ours

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
NIGHTLY = ScheduleInfo(id="s1", schedule={"cron": "0 22 * * *", "timezone": "Europe/Berlin"})


def test_flows_verbs_are_there(tmp_path: Path) -> None:
    done = run_command(["version", "--json"], os.environ, tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"prefect"' in done.stdout


def test_next_dates_are_prefects_own() -> None:
    assert compute_next_date(NIGHTLY, NOW) == (datetime(2026, 11, 20, 21, 0, tzinfo=UTC), "")
    over = ScheduleInfo(
        id="s", schedule={"rrule": "DTSTART:20200101T000000\nRRULE:FREQ=DAILY;COUNT=2", "timezone": "UTC"}
    )
    assert compute_next_date(over, NOW) == (None, "")
    date, fault = compute_next_date(ScheduleInfo(id="s", schedule={"cron": "not at all"}), NOW)
    assert date is None
    assert fault


def test_show_starts_nothing_and_hides_passwords(tmp_path: Path) -> None:
    login = "u:unseen"
    secrets = {
        "PREFECT_SERVER_API_AUTH_STRING": "fleet:unseen-unseen",  # pragma: allowlist secret
        "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql://{login}@db/prefect",
    }
    done = run_command(["server", "--show", "--json", "--home", str(tmp_path / "home")], os.environ | secrets, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "unseen" not in done.stdout + done.stderr
    shown = {row["name"]: row["value"] for row in json.loads(done.stdout)["server"]}
    assert shown.keys() >= build_environment(SettingTarget.SERVER).keys()
    assert shown["PREFECT_SERVER_API_AUTH_STRING"] == "(hidden)"
    assert json.loads(done.stdout)["worker"] == build_environment(SettingTarget.WORKER)
    assert not (tmp_path / "home").exists()


def test_settings_are_shown_with_their_reasons(tmp_path: Path) -> None:
    done = run_command(["server", "--show"], os.environ | {"COLUMNS": "300"}, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Workers, beside PREFECT_API_URL" in done.stdout
    assert {each.name for each in PREFECT_SETTINGS if each.name not in done.stdout} == set()
    assert "The server sends nothing to Prefect's makers." in done.stdout


def test_doctor_needs_to_know_which_server(tmp_path: Path) -> None:
    home = {"XDG_DATA_HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path)}
    with temporary_settings({PREFECT_API_URL: None}):
        done = run_command(["doctor", "--server", "--json"], without_ours() | home, tmp_path)
    assert done.returncode == 5
    (finding,) = json.loads(done.stdout)["server"]
    assert (finding["check"], finding["level"]) == ("server", "block")
    assert "PREFECT_API_URL" in finding["message"]
    assert "fleetpatch server" in finding["remedy"]
