"""components: the whole command, with real records and a file of components, on simulated machines."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.components.fleet_components import FleetComponents
from flows.engine.run_lease import build_holder
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from tasks.machines.managers.components.kinds import ComponentKind
from tasks.records.setup import open_records
from tests.contract.cli.conftest import Said, Stage
from tests.support.fake_components import PROBE, FakeComponents

QUICK = ("--yes", "--no-prefect", "--json")
FILE = """
canary_locations: [test]
components:
  - name: app
    kind: file
    system: linux
    after: [agent]
    version: {command: app --version, pattern: 'version ([0-9.]+)'}
    install: install it
    versions: [{version: 2.0.0, url: "https://x.test/a", sha256: DIGEST},
               {version: 2.1.0, url: "https://x.test/b", sha256: DIGEST},
               {version: 3.0.0, url: "https://x.test/c", sha256: DIGEST}]
  - name: agent
    kind: file
    system: linux
    version: {command: agent --version, pattern: 'version ([0-9.]+)'}
    install: install it
    versions: [{version: 1.0.0, url: "https://x.test/d", sha256: DIGEST},
               {version: 1.1.0, url: "https://x.test/e", sha256: DIGEST}]
""".replace("DIGEST", "ab" * 32)


class Site:
    """Six machines with two components, one machine at the canary location."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage, self.file = stage, folder / "components.yaml"
        self.file.write_text(FILE)
        self.on: dict[str, FakeComponents] = {}
        for number in range(1, 7):
            name = f"m{number}"
            machine = stage.add(name, location="test" if number == 6 else "berlin", probes=(PROBE,))
            self.on[name] = FakeComponents(machine, {"agent": "1.0.0", "app": "2.0.0"})

    def run(self, *words: str) -> Said:
        return self.stage.run("components", *words)

    def versions(self, component: str) -> dict[str, str | None]:
        return {name: on.versions[component] for name, on in self.on.items()}

    def rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        rows = self.run("list", "--json").json["components"]
        return {(row["machineName"], row["componentName"]): row for row in rows}


@pytest.fixture
def site(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site(stage, tmp_path)
    monkeypatch.setattr("tasks.domain.protocols.clock.SystemClock", lambda: stage.fleet.clock)
    plain = Stage.ports

    def with_components(self: Stage, who: Caller) -> Ports:
        ports = plain(self, who)
        records = open_records(who.records_url)
        components = FleetComponents(records, ports.inventory, self.inventory, ports.clock, print, "app")
        agent = FleetComponents(records, ports.inventory, self.inventory, ports.clock, print, "agent")
        return replace(
            ports,
            list_components=lambda machine: _both(agent, components, machine),
            find_component_order=components.find_order,
            find_withdrawal=components.find_withdrawal,
        )

    monkeypatch.setattr(Stage, "ports", with_components)
    return made


def _both(agent: FleetComponents, app: FleetComponents, machine: Any) -> tuple[Any, ...]:
    return tuple({one.name: one for one in (*agent.list_components(machine), *app.list_components(machine))}.values())


def enroll_both(site: Site) -> None:
    for name in ("agent", "app"):
        assert site.run("enroll", name, "*").code == 0


def test_an_enrolment_is_told_and_ended(site: Site) -> None:
    said = site.run("enroll", "agent", "location=berlin")
    assert (said.code, said.out.strip()) == (0, "agent enrolled in location=berlin: 5 machines now")
    assert "was enrolled already" in site.run("enroll", "agent", "location=berlin").out
    rows = site.rows()
    assert rows["m1", "agent"]["automaticUpgradeStatus"] == "Enabled"
    assert rows["m1", "agent"]["scopes"] == ["location=berlin"]
    assert rows["m6", "agent"]["automaticUpgradeStatus"] == "Disabled"
    assert rows["m1", "agent"]["standing"] == "Unknown"  # nobody has asked yet
    assert site.run("unenroll", "agent", "location=berlin").code == 0
    said = site.run("unenroll", "agent", "location=berlin")
    assert said.code == 2
    assert "agent is not enrolled in 'location=berlin'" in said.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("enroll", "agnet", "*"), "there is no component 'agnet'"),
        (("enroll", "agent", "location=nowhere"), "nowhere"),
        (("upgrade", "agent", "*", "--to", "9.9", *QUICK), "agent has no version '9.9'"),
        (("upgrade", "--to", "1.1.0", *QUICK), "--to needs a component"),
    ],
)
def test_what_can_not_be_is_refused_with_a_remedy(site: Site, words: tuple[str, ...], told: str) -> None:
    said = site.run(*words)
    assert said.code != 0
    assert told in said.out + said.err
    assert not any(on.jobs for on in site.on.values())


def test_both_components_are_upgraded_one_after_the_other_and_no_major_version_comes(site: Site) -> None:
    enroll_both(site)
    said = site.run("upgrade", *QUICK)
    assert said.code == 0, said.err
    assert [run["componentName"] for run in said.json["runs"]] == ["agent", "app"]
    assert [run["upgradedMachineCount"] for run in said.json["runs"]] == [6, 6]
    assert set(site.versions("agent").values()) == {"1.1.0"}
    assert set(site.versions("app").values()) == {"2.1.0"}
    for on in site.on.values():
        assert [(name, version) for work, name, version in on.jobs if work == "install"] == [
            ("agent", "1.1.0"),
            ("app", "2.1.0"),
        ]
    rows = site.rows()
    assert rows["m1", "agent"]["standing"] == "Current"
    assert (rows["m1", "app"]["standing"], rows["m1", "app"]["newestVersion"]) == ("MajorAvailable", "3.0.0")
    assert rows["m1", "app"]["lastSucceeded"] is True
    said = site.run("upgrade", "--yes", "--no-prefect")
    assert (said.code, said.out.strip()) == (0, "Nothing is due: no enrolled component has a newer minor version.")


def test_a_bad_version_holds_its_dependants_back_and_is_tried_again_later(site: Site) -> None:
    enroll_both(site)
    for on in site.on.values():
        on.unhealthy.add(("agent", "1.1.0"))
    said = site.run("upgrade", *QUICK)
    assert said.code == 1
    agent = said.json["runs"][0]
    assert (agent["upgradedMachineCount"], agent["failedMachineCount"], agent["status"]) == (0, 1, "Failed")
    assert set(site.versions("agent").values()) == {"1.0.0"}
    assert set(site.versions("app").values()) == {"2.0.0"}  # it waits for the agent, on each machine
    rows = site.rows()
    assert rows["m6", "agent"]["standing"] == "RetryLater"  # the canary
    assert rows["m1", "agent"]["standing"] == "RetryLater"
    assert "stopped once" in rows["m1", "agent"]["reason"]
    assert rows["m6", "agent"]["lastSucceeded"] is False
    jobs = sum(len(on.jobs) for on in site.on.values())
    assert site.run("upgrade", *QUICK).code == 3
    assert "RetryLater, see fleetpatch components list" in site.run("upgrade", "--yes", "--no-prefect").out
    assert sum(len(on.jobs) for on in site.on.values()) == jobs  # not before its time
    for on in site.on.values():
        on.unhealthy.clear()
    site.stage.fleet.clock.advance(25 * 3600)
    assert site.run("upgrade", *QUICK).code == 0
    assert set(site.versions("agent").values()) == {"1.1.0"}
    assert set(site.versions("app").values()) == {"2.1.0"}


def test_what_is_not_known_or_not_possible_is_no_success(site: Site) -> None:
    enroll_both(site)
    assert site.run("list").code == 3  # nobody was asked yet
    assert site.stage.run("assess").code == 0
    assert site.run("list").code == 0
    site.on["m1"].versions["agent"] = "1.0.5"
    assert site.stage.run("assess").code == 0
    assert site.rows()["m1", "agent"]["standing"] == "Unlisted"
    assert site.run("list").code == 3
    said = site.run("upgrade", "agent", "os=windows", *QUICK)
    assert said.code == 2


def test_one_run_upgrades_a_component_at_a_time(site: Site) -> None:
    other = build_holder("berta")
    with open_records(site.stage.url) as records:
        records.leases.acquire("upgrade-of-agent", other, 60)
        said = site.run("upgrade", "agent", "*", *QUICK)
        assert said.code == 5
        assert "run upgrade-of-agent is executed by berta" in said.json["runs"][0]["message"]
        assert set(site.versions("agent").values()) == {"1.0.0"}
        assert site.run("plan", "agent").code == 0  # who only looks waits for nobody
        records.leases.release("upgrade-of-agent", other)
    assert site.run("upgrade", "agent", "*", *QUICK).code == 0
    assert set(site.versions("agent").values()) == {"1.1.0"}


def test_a_component_that_fails_does_not_stop_the_others(site: Site) -> None:
    site.file.write_text(FILE.replace("    after: [agent]\n", ""))
    enroll_both(site)
    for on in site.on.values():
        on.fails["1.1.0"] = "no such library"
    said = site.run("upgrade", *QUICK)
    assert said.code == 1
    assert set(site.versions("agent").values()) == {"1.0.0"}
    assert set(site.versions("app").values()) == {"2.1.0"}


def test_a_person_orders_a_major_version(site: Site) -> None:
    said = site.run("upgrade", "app", "location=test", "--to", "3.0.0", *QUICK)
    assert said.code == 0, said.err
    assert site.versions("app") == {name: "3.0.0" if name == "m6" else "2.0.0" for name in site.on}


def test_the_schema_names_every_kind(stage: Stage) -> None:
    said = stage.run("components", "schema")
    assert said.code == 0, said.err
    assert set(said.json["$defs"]["ComponentKind"]["enum"]) == set(ComponentKind)


def test_a_plan_changes_nothing(site: Site) -> None:
    enroll_both(site)
    said = site.run("plan", "--json")
    assert said.code == 0, said.err
    assert [run["componentName"] for run in said.json["runs"]] == ["agent", "app"]
    assert not any(on.jobs for on in site.on.values())
    assert site.rows()["m1", "agent"]["availableVersion"] == "1.1.0"  # the plan has asked


def test_queries_and_lists_of_machines_show_components(site: Site) -> None:
    enroll_both(site)
    site.run("upgrade", "agent", "*", *QUICK)
    sql = "SELECT machine, installed, standing FROM components WHERE component = 'agent' ORDER BY machine"
    said = site.stage.run("query", sql, "--json")
    assert said.code == 0, said.err
    assert "1.1.0" in said.out
    assert "Current" in said.out
    rows = {row["machineName"]: row for row in site.stage.run("machines", "--json").json["machines"]}
    assert rows["m1"]["components"] == ["agent 1.1.0", "app 2.0.0"]


def test_a_file_with_faults_stops_no_patch_run_and_every_upgrade(site: Site) -> None:
    site.file.write_text("components: [{name: app}]")
    said = site.run("list")
    assert said.code != 0
    assert "components.yaml:1" in said.err


def test_a_withdrawn_version_ends_the_rollout_and_its_command_takes_it_back(site: Site) -> None:
    """Also where the version before is in no file any more: the journal of the run has it."""
    enroll_both(site)
    digest = "ab" * 32
    withdrawn = FILE.replace(f'x.test/e", sha256: {digest}', f'x.test/e", sha256: {digest}, withdrawn: it leaks')
    forgotten = withdrawn.replace(f'{{version: 1.0.0, url: "https://x.test/d", sha256: {digest}}},', "")
    assert len({FILE, withdrawn, forgotten}) == 3

    def withdraw() -> None:
        site.file.write_text(withdrawn)

    site.stage.fleet.machines["m6"].on_start("install", 5, withdraw)
    said = site.run("upgrade", "agent", "*", *QUICK)
    assert said.code == 3
    assert site.versions("agent") == {name: "1.1.0" if name == "m6" else "1.0.0" for name in site.on}
    assert "the upgrade is stopped: agent 1.1.0 was withdrawn: it leaks" in said.out
    rows = site.rows()
    assert (rows["m6", "agent"]["standing"], rows["m1", "agent"]["standing"]) == ("NonCurrent", "Current")
    assert site.run("list").code == 3
    site.file.write_text(forgotten)
    assert site.rows()["m6", "agent"]["standing"] == "NonCurrent"
    _, _, command = rows["m6", "agent"]["reason"].partition("To take it back: fleetpatch components ")
    said = site.run(*command.split(), *QUICK)
    assert said.code == 0, said.err
    assert set(site.versions("agent").values()) == {"1.0.0"}
    assert site.rows()["m6", "agent"]["installed"] == "1.0.0"
