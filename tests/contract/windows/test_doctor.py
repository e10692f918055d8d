"""`fleetpatch doctor` on a Windows machine that is new to it: over WinRM, with real logins and TLS, and read-only."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleetpatch.cli.main import main
from tasks.domain.model import Assessment, Facts
from tasks.records.queries.history import History
from tasks.records.setup import open_records
from tests.contract.windows.test_next_boot import encrypted
from tests.contract.windows.test_self_restarts import DEADLINE, rebooting
from tests.contract.windows.test_settings import BAD
from tests.lab.windows.accounts import Account
from tests.lab.windows.certificates import Authority
from tests.lab.windows.powershell_process import find_powershell
from tests.lab.windows.scenario import SERVICES, Scenario, Service, Update, history_entry
from tests.lab.windows.served_machine import ServedMachine
from tests.lab.windows.windows_host import ADMINISTRATOR, Options
from tests.support.bundles import Bundle, play
from tests.unit.managers.recordings import describe

pytestmark = pytest.mark.skipif(find_powershell() is None, reason="there is no PowerShell here")
GUEST = Account("guest", "guest", administrator=False)
PATCHER = Account("svc-patch", "Pa:ss w0rd!")
GUID = "0000000{}-0000-4000-8000-000000000000"
NAMED = Scenario(
    name="PAYROLL-7",
    domain="acme.example",
    updates=(Update(GUID.format(1), "2026-11 Cumulative Update (KB5000001)", kbs=("5000001",), needs_reboot=True),),
    history=[
        history_entry("2026-10 Cumulative Update (KB5000002)", GUID.format(2), at=1_790_000_000),
        history_entry("Intel - net - 12.19.2.45 for payroll-7", GUID.format(3), at=1_780_000_000),
    ],
    registry={
        r"SYSTEM\CurrentControlSet\Control\ProductOptions": {"ProductType": "LanmanNT"},
        r"SYSTEM\CurrentControlSet\Services\Tcpip\Parameters": {"Domain": "acme.example"},
        r"Cluster": {"ClusterName": "LEDGER-9"},
    },
    services=(*SERVICES, Service("ClusSvc")),
    policies={"WUServer": "http://wsus.acme.example:8530", "WUStatusServer": "http://10.44.0.5:8530"},
)
NAMES = ("win-1", "payroll-7", "ledger-9", "acme", "svc-patch", "wsus", "10.44.0.5", "127.0.0.1", "Pa:ss")
"""What nobody may read in a recording of that machine."""


class Doctor:
    """The command, with an inventory of one machine."""

    def __init__(
        self, served: ServedMachine, folder: Path, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
    ) -> None:
        self.served = served
        self._folder = folder
        self._capture = capture
        self._patch = patch

    def ask(
        self, winrm: Mapping[str, object] | None = None, *more: str, user: str = "", password: str = "", port: int = 0
    ) -> tuple[int, dict[str, dict[str, Any]]]:
        """Return the exit code, and the worst finding of each check."""
        host = self.served.host
        entry: dict[str, Any] = {
            "name": "win-1",
            "address": host.address,
            "port": port or host.https_port,
            "transport": "winrm",
            "winrm": dict(winrm) if winrm is not None else {"ca_file": str(host.ca_file)},
        }
        if entry["winrm"].get("authentication") != "kerberos":
            entry |= {"user": user or host.user, "credential": "env:WINDOWS_PASSWORD"}
        inventory = self._folder / "fleet.yaml"
        inventory.write_text(yaml.safe_dump({"machines": [entry]}))
        self._patch.setenv("WINDOWS_PASSWORD", password or host.password)
        records = f"sqlite:///{self._folder / 'records.db'}"
        self._capture.readouterr()
        code = main(["doctor", "-i", str(inventory), "--records", records, "--json", *more])
        (machine,) = json.loads(self._capture.readouterr().out)["machines"]
        levels = ("good", "remark", "warn", "block")
        findings = sorted(machine["findings"], key=lambda each: levels.index(each["level"]))
        assert machine["ready"] is not any(each["level"] == "block" for each in findings)
        return code, {each["check"]: each for each in findings}

    def read_assessment(self) -> Assessment:
        """Return what the last question has found, as the records have it."""
        with closing(open_records(f"sqlite:///{self._folder / 'records.db'}")) as records:
            return History(records).read_latest_assessments(["win-1"])["win-1"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def doctor(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    authority: Authority,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Doctor]:
    scenario: Scenario = getattr(request, "param", None) or Scenario()
    options = Options([ADMINISTRATOR, GUEST, PATCHER])
    with ServedMachine(tmp_path / "machine", scenario, authority=authority, options=options) as served:
        yield Doctor(served, tmp_path, capsys, monkeypatch)


def list_files(folder: Path) -> Sequence[Path]:
    return sorted(path for path in (folder / "C").rglob("*") if path.is_file())


@pytest.mark.parametrize("doctor", [NAMED], indirect=True)
def test_a_good_machine_is_ready_and_nothing_on_it_has_changed(doctor: Doctor, tmp_path: Path) -> None:
    machine = doctor.served.machine
    before = list_files(machine.folder)
    bundle = tmp_path / "bundle"
    more = ("--refresh", "--record", str(bundle))
    code, findings = doctor.ask(None, *more, user=PATCHER.user, password=PATCHER.password)
    assert (code, {name for name, each in findings.items() if each["level"] != "good"}) == (0, set()), findings
    assert {"reach", "host key", "login", "privilege", "facts", "clock"} <= findings.keys()
    assert list_files(machine.folder) == before
    assert not machine.read_state()["tasks"]
    assert not machine.stand_in_errors()
    require_recording_without_names(bundle)
    require_same_assessment(Bundle.read(bundle), doctor.read_assessment())


def require_recording_without_names(folder: Path) -> None:
    """Nobody but its owner may read it, it has every question, and none of the names."""
    assert (folder.stat().st_mode & 0o777, {path.stat().st_mode & 0o777 for path in folder.iterdir()}) == (
        0o700,
        {0o600},
    )
    for path in folder.iterdir():
        text = f"{path.name} {path.read_text(encoding='utf-8')}".casefold()
        assert [name for name in NAMES if name.casefold() in text] == [], path.name
    bundle = Bundle.read(folder)
    assert {each.script for each in bundle.answers} == {"facts", "wua_assess", "wua_installed", "health", "next_boot"}
    assert [each.error for each in bundle.answers if each.error] == []
    assert bundle.about["system"]["version"] == "20348.2700"
    (policy,) = [record for each in bundle.answers if each.result for record in each.result.find_records("policy")]
    assert policy["values"] == {"WUServer": "http://host-4.domain-1:8530", "WUStatusServer": "http://address-1:8530"}


def stop_clocks(facts: Facts) -> Facts:
    return replace(facts, clock_skew_seconds=0.0, clock_error_seconds=0.0, roles=None)  # these have names


def require_same_assessment(bundle: Bundle, live: Assessment) -> None:
    """Played, it is what the machine itself was, apart from names, and clocks that stand still."""
    assert live.facts is not None
    assert live.packages is not None
    facts, packages = play(bundle)
    assert packages.asked_at is not None
    packages = replace(packages, asked_at=live.packages.asked_at)
    played = {"facts": describe(stop_clocks(facts)), "packages": describe(packages)}
    assessed = {"facts": describe(stop_clocks(live.facts)), "packages": describe(live.packages)}
    ids = ((getattr(live.facts, name), getattr(facts, name)) for name in ("machine_id", "boot_id", "instance_id"))
    text = functools.reduce(lambda text, pair: text.replace(*pair), ids, json.dumps(assessed))
    assert played == json.loads(text)


RESTARTING = encrypted(1, updates=(rebooting(1),), policies=DEADLINE)


@pytest.mark.parametrize("doctor", [RESTARTING], indirect=True)
def test_restarts_by_windows_and_a_boot_that_asks_are_told_and_a_plan_keeps_its_promise(
    doctor: Doctor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, findings = doctor.ask()
    assert code == 3, findings
    assert [findings[name]["level"] for name in ("self-restart", "boot needs")] == ["warn", "warn"]
    assert "restarts it with a deadline of 3 days after an update is offered" in findings["self-restart"]["message"]
    assert "asks for the passphrase, PIN or key of an encrypted volume: C:" in findings["boot needs"]["message"]
    plan = ["plan", "*", "-i", str(tmp_path / "fleet.yaml"), "--records", f"sqlite:///{tmp_path / 'records.db'}"]
    capsys.readouterr()
    code = main(plan)
    told = " ".join(capsys.readouterr().out.split())
    assert code == 0, told
    assert "PIN or key of an encrypted volume: C:" in told
    assert "it may restart by itself: a group policy (ConfigureDeadlineForQualityUpdates)" in told
    assert "pre-check would refuse" not in told
    code = main([*plan, "--reboot", "Never"])
    told = " ".join(capsys.readouterr().out.split())
    assert (code, "pre-check would refuse: self-restart: it may restart" in told) == (1, True), told


@pytest.mark.parametrize("doctor", [BAD], indirect=True)
def test_everything_that_would_stop_a_run_is_said_at_once(doctor: Doctor) -> None:
    code, findings = doctor.ask()
    assert code == 1
    assert {name: each["level"] for name, each in findings.items() if each["level"] != "good"} == {
        "privilege": "block",
        "settings": "block",
        "disk": "warn",
    }
    assert all(each["remedy"] for each in findings.values() if each["level"] != "good")


DISABLED = tuple(
    Service("wuauserv", "Stopped", "Disabled") if each.name == "wuauserv" else each for each in Scenario().services
)


@pytest.mark.parametrize(
    "doctor", [Scenario(services=DISABLED, search_hresults=[0x80070422], disks=BAD.disks)], indirect=True
)
def test_a_disabled_agent_does_not_hide_what_else_is_wrong(doctor: Doctor) -> None:
    code, findings = doctor.ask()
    assert code == 1
    assert "disk" in findings
    (blocking,) = [each for each in findings.values() if each["level"] == "block"]
    assert "ERROR_SERVICE_DISABLED" in blocking["message"]
    assert blocking["remedy"]


def test_a_certificate_that_is_not_trusted_is_shown_and_can_be_pinned(doctor: Doctor) -> None:
    host = doctor.served.host
    shown = host.show("self-signed")
    code, findings = doctor.ask()
    assert code == 1
    assert findings["host key"]["level"] == "block"
    assert f"SHA-256 {shown.sha256}" in findings["host key"]["remedy"]
    assert shown.thumbprint in findings["host key"]["remedy"]
    assert host.accounts.logins == []
    pinned_code, pinned = doctor.ask({"certificate_thumbprint": shown.sha256})
    assert (pinned_code, pinned["host key"]["level"]) == (0, "good"), pinned


def test_a_certificate_that_is_not_the_pinned_one_is_shown(doctor: Doctor) -> None:
    host = doctor.served.host
    pin = host.certificate.sha256
    shown = host.show("renewed")
    _, findings = doctor.ask({"certificate_thumbprint": pin})
    assert "not the pinned one" in findings["host key"]["message"]
    assert shown.sha256 in findings["host key"]["remedy"]
    assert host.accounts.logins == []


def test_a_wrong_password_is_sent_once(doctor: Doctor) -> None:
    code, findings = doctor.ask(password="wrong")
    assert (code, findings["login"]["level"]) == (1, "block")
    assert "refused the login" in findings["login"]["message"]
    assert doctor.served.host.accounts.wrong_passwords == 1


def test_a_login_that_is_no_administrator_is_told_about_rights_and_token_filters(doctor: Doctor) -> None:
    code, findings = doctor.ask(user=GUEST.user, password=GUEST.password)
    assert (code, findings["privilege"]["level"]) == (1, "block")
    assert "LocalAccountTokenFilterPolicy" in findings["privilege"]["remedy"]


def test_a_port_where_nothing_listens_is_told_with_the_listener(doctor: Doctor) -> None:
    doctor.served.host.power_off()
    code, findings = doctor.ask()
    assert (code, findings["reach"]["level"]) == (1, "block")
    assert "winrm enumerate winrm/config/listener" in findings["reach"]["remedy"]


def test_what_is_wrong_here_is_not_taken_for_a_machine_that_answered(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("winrm.transport.HAVE_KERBEROS", False)
    code, findings = doctor.ask({"authentication": "kerberos", "ca_file": str(doctor.served.host.ca_file)})
    assert (code, list(findings), findings["reach"]["level"]) == (1, ["reach"], "block"), findings
    assert "pywinrm[kerberos]" in findings["reach"]["remedy"]
    code, findings = doctor.ask({"ca_file": str(tmp_path / "none.pem")})
    assert (code, list(findings), findings["reach"]["level"]) == (1, ["reach"], "block"), findings
    assert doctor.served.host.connected == 0
