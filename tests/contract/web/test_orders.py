"""Orders and owners by the pages and the API. Prefect is a list here."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fleetpatch.access.roles import Role
from fleetpatch.acts import run_acts
from inventory.loader import load_inventory
from tasks.domain.model import HotpatchEnrolment
from tasks.domain.rows.audit import AuditResult
from tasks.domain.states import ChangeState, MachineKind
from tasks.records.audit.log import SqlAuditLog
from tasks.records.hotpatch_enrolments import SqlHotpatchEnrolments
from tasks.records.machine_orders import SqlMachineOrders
from tasks.rules.hotpatch import EnrolmentRequest, HotpatchAction
from tests.contract.web.test_acts import Prefect
from tests.support.builders import make_assessment, make_facts, make_package_state
from tests.support.web_people import admit_people, person
from tests.support.web_site import Site, serve_site

INVENTORY = """\
machines:
  - name: web-1   # the first
    address: 192.0.2.1
    environment: prod
  - {name: web-2, address: 192.0.2.2, environment: test}
  - {name: win-1, address: 192.0.2.3, os: windows, environment: prod}
  - {name: shop-1, address: 192.0.2.4, site: hamburg}
"""
BOB = person("bob", Role.VIEW, Role.RUN)
EVE = person("eve", Role.VIEW)


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Prefect:
    made = Prefect()
    monkeypatch.setattr(run_acts, "start_flow_run", made.start)
    return made


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    admit_people(monkeypatch)
    (tmp_path / "fleet.yaml").write_text(INVENTORY)
    with serve_site(tmp_path) as made:
        yield made


def tell(site: Site, name: str, enrolment: HotpatchEnrolment | None = None, **facts: Any) -> None:
    """Have a machine answer."""
    packages = make_package_state(hotpatch=enrolment)
    now = site.context.clock.now()
    site.records.save(make_assessment(machine=name, facts=make_facts(**facts), packages=packages, at=now))


def find_file(site: Site) -> Path:
    path = site.context.settings.inventory
    assert path is not None
    return path


def read_owners(site: Site) -> dict[str, str]:
    inventory = load_inventory(find_file(site))
    return {machine.name: machine.owner.value for machine in inventory.machines}


def send(site: Site, path: str, who: Mapping[str, str] = BOB, /, **values: Any) -> Any:
    return site.client.post(path, data=values, headers=dict(who))


class TestHotpatchOrders:
    def test_it_asks_first_and_a_double_click_starts_one(self, site: Site, prefect: Prefect) -> None:
        asked = send(site, "/hotpatch", act="hotpatch enroll", machine=["web-1", "win-1"])
        assert asked.status_code == 200
        assert "web-1, win-1" in asked.text
        assert prefect.started == []
        sent: dict[str, Any] = {"act": "hotpatch enroll", "machine": ["web-1", "win-1"], "confirmed": "1", "once": "k"}
        answers = [send(site, "/hotpatch", **sent) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [303, 303]
        (started,) = prefect.started
        assert (started.flow, started.site) == ("change-machines", "default")
        request = started.parameters["request"]
        assert (request["act"], request["only_machines"]) == ("hotpatch enroll", ["web-1", "win-1"])

    def test_the_box_of_the_whole_list_takes_its_filters(self, site: Site, prefect: Prefect) -> None:
        asked = send(site, "/hotpatch", act="hotpatch disable", all="1", environment="prod")
        assert "web-1, win-1" in asked.text
        assert "web-2" not in asked.text

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"act": "hotpatch enroll"}, "no machine is selected"),
            ({"act": "rm -rf", "machine": ["web-1"]}, "the act is unknown"),
            ({"act": "hotpatch enroll", "machine": ["gone"]}, "not in the inventory any more: gone"),
            (
                {"act": "updaters off", "machine": ["web-1", "shop-1"], "confirmed": "1", "once": "k"},
                "of several sites: default, hamburg",
            ),
        ],
    )
    def test_what_makes_no_sense_is_said_with_the_remedy(
        self, site: Site, prefect: Prefect, values: dict[str, Any], words: str
    ) -> None:
        answer = send(site, "/hotpatch", **values)
        assert answer.status_code == 400
        assert words in answer.text
        assert prefect.started == []

    def test_machines_of_another_site_go_to_its_worker(self, site: Site, prefect: Prefect) -> None:
        send(site, "/owners", act="updaters off", machine=["shop-1"], confirmed="1", once="k")
        assert [(started.flow, started.site) for started in prefect.started] == [("change-machines", "hamburg")]

    def test_a_policy_refuses_it(self, site: Site, prefect: Prefect, tmp_path: Path, monkeypatch: Any) -> None:
        policy = tmp_path / "policy.yaml"
        rule = "{name: all, scope: env=prod, ask: the team, forbid: [hotpatch]}"
        policy.write_text(f"policy: {{inventories: [fleet.yaml], rules: [{rule}]}}")
        monkeypatch.setenv("FLEETPATCH_POLICY", str(policy))
        sent: dict[str, Any] = {"act": "hotpatch enroll", "machine": ["web-1"], "confirmed": "1", "once": "k"}
        assert send(site, "/hotpatch", **sent).status_code == 403
        assert prefect.started == []
        assert send(site, "/hotpatch", **{**sent, "machine": ["web-2"]}).status_code == 303

    def test_a_role_for_some_machines_is_for_no_others(self, site: Site, prefect: Prefect) -> None:
        tess = person("tess", "view", "run@env=test")
        sent: dict[str, Any] = {"act": "hotpatch enroll", "confirmed": "1", "once": "k"}
        assert send(site, "/hotpatch", tess, machine=["web-1"], **sent).status_code == 403
        for confirmed in ({"confirmed": "1"}, {}):  # the preview would show lines of the inventory
            assert send(site, "/owners", tess, machine=["web-1"], act="owner os", **confirmed).status_code == 403
        assert prefect.started == []
        assert read_owners(site)["web-1"] == "fleetpatch"
        assert send(site, "/hotpatch", tess, machine=["web-2"], **sent).status_code == 303

    def test_an_order_that_has_begun_has_its_page(self, site: Site, prefect: Prefect) -> None:
        orders = SqlMachineOrders(site.records.database)
        order_id, now = "00000000-0000-0000-0000-000000000001", site.context.clock.now()
        orders.begin(order_id, "updaters off", "web-1", "bob", now)
        orders.begin(order_id, "updaters off", "web-2", "bob", now)
        orders.end(order_id, "web-1", ChangeState.FAILED, now, message="<b>no</b>", remedy="", steps=())
        led = site.client.get(f"/starting/{order_id}", headers=BOB)
        assert (led.status_code, led.headers["location"]) == (303, f"/orders/{order_id}")
        page = site.client.get(f"/orders/{order_id}", headers=BOB)
        assert "&lt;b&gt;no&lt;/b&gt;" in page.text
        assert "hx-get" in page.text
        rows = site.client.get(f"/api/v1/orders/{order_id}", headers=BOB).json()
        assert [(row["machineName"], row["result"]) for row in rows] == [("web-1", "failed"), ("web-2", "begun")]
        assert site.client.get("/orders/none", headers=BOB).status_code == 404


class TestHotpatchList:
    def test_it_says_who_gets_hotpatches_and_what_reboots(self, site: Site) -> None:
        enrolment = HotpatchEnrolment("hotpatch", "arc", enrolled=True, receives=True, product="26100")
        tell(site, "win-1", enrolment, kind=MachineKind.VIRTUAL, container_engines=(), is_arc=True)
        tell(site, "web-1", kind=MachineKind.PHYSICAL, container_engines=("docker",), is_arc=False)
        request = EnrolmentRequest(HotpatchAction.ENABLE, site.context.clock.now(), "anne", failure="")
        SqlHotpatchEnrolments(site.records.database).save_request("win-1", request, None)
        rows = {row["machineName"]: row for row in self.read(site)}
        win = rows["win-1"]
        assert (win["hotpatchStatus"], win["machineKind"], win["isArc"]) == ("Enabled", "VirtualMachine", "yes")
        assert win["rebootExpected"] == ("yes" if win["nextReleaseIsBaseline"] else "no")
        assert win["nextBaselineDate"] >= win["nextReleaseDate"]
        assert (win["lastAction"], win["lastBy"]) == ("enable", "anne")
        web, never = rows["web-1"], rows["web-2"]
        assert (web["isContainerHost"], web["rebootExpected"], web["hotpatchStatus"]) == ("yes", "unknown", None)
        assert (never["machineKind"], never["isContainerHost"], never["isArc"]) == ("Unknown", "unknown", "unknown")
        assert [row["machineName"] for row in self.read(site, hotpatch="Enabled")] == ["win-1"]
        assert [row["machineName"] for row in self.read(site, kind="ContainerHost")] == ["web-1"]
        assert [row["machineName"] for row in self.read(site, kind="Arc")] == ["win-1"]
        assert len(self.read(site, kind="Unknown")) == 2
        page = site.client.get("/hotpatch", headers=BOB).text
        assert "The next baseline is on" in page
        assert "container host" in page
        listed = site.client.get("/machines?kind=Physical", headers=BOB).text
        assert "web-1" in listed
        assert "win-1" not in listed

    def read(self, site: Site, **filters: str) -> list[dict[str, Any]]:
        answer = site.client.get("/api/v1/hotpatch", params=filters, headers=BOB)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


class TestOwners:
    def test_the_diff_is_shown_then_written_and_the_list_follows(self, site: Site) -> None:
        asked = send(site, "/owners", act="owner os", machine=["web-1"])
        assert "+    owner: os" in asked.text
        assert read_owners(site)["web-1"] == "fleetpatch"
        done = send(site, "/owners", act="owner os", machine=["web-1"], confirmed="1")
        assert done.status_code == 200
        assert "# the first\n    owner: os\n" in find_file(site).read_text()
        entries = SqlAuditLog(site.records.database).read(10, act="set owner")
        assert [(entry.who, entry.result) for entry in entries] == [
            ("bob", AuditResult.DONE),
            ("bob", AuditResult.BEGUN),
        ]

    def test_two_people_at_once_change_what_each_has_asked_for(self, site: Site) -> None:
        send(site, "/owners", act="owner os", machine=["web-1"])  # both are shown the same file
        send(site, "/owners", act="owner manual", machine=["web-2"])
        send(site, "/owners", act="owner manual", machine=["web-2"], confirmed="1")
        send(site, "/owners", act="owner os", machine=["web-1"], confirmed="1")
        assert (read_owners(site)["web-1"], read_owners(site)["web-2"]) == ("os", "manual")

    def test_who_only_looks_changes_nothing(self, site: Site, prefect: Prefect) -> None:
        for path, act in (("/owners", "owner os"), ("/owners", "updaters off"), ("/hotpatch", "hotpatch enroll")):
            assert send(site, path, EVE, act=act, machine=["web-1"], confirmed="1", once="k").status_code == 403
        assert read_owners(site)["web-1"] == "fleetpatch"
        assert prefect.started == []

    def test_a_file_that_the_pages_may_not_write_is_told_with_the_diff(self, site: Site, monkeypatch: Any) -> None:
        def rename(_self: Path, _target: Path) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(Path, "rename", rename)
        answer = send(site, "/owners", act="owner os", machine=["web-1"], confirmed="1")
        assert answer.status_code == 409
        assert "Read-only file system" in answer.text
        assert "+    owner: os" in answer.text
        assert read_owners(site)["web-1"] == "fleetpatch"

    def test_the_api_changes_owners_once(self, site: Site) -> None:
        body = {"machines": ["web-1", "web-2"], "owner": "managed"}
        first, second = (site.client.post("/api/v1/owners", json=body, headers=BOB).json() for _ in range(2))
        assert [row["result"] for row in first["machines"]] == ["changed", "changed"]
        assert first["diff"].count("+") >= 2
        assert ([row["result"] for row in second["machines"]], second["diff"]) == (["unchanged"] * 2, "")
        planned = site.client.post("/api/v1/owners", json={**body, "owner": "os", "dryRun": True}, headers=BOB).json()
        assert {row["result"] for row in planned["machines"]} == {"planned"}
        assert read_owners(site)["web-1"] == "managed"
