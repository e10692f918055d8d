"""images: the whole command, with real records and a file of images, on simulated machines and a provider in memory."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from flows.components.fleet_components import FleetComponents
from flows.images.fleet_images import FleetImages
from flows.installation_checks import check_installation
from flows.ports.caller import Caller
from flows.ports.ports import Ports
from tasks.domain.components import ComponentEnrolment
from tasks.domain.model import Outcome
from tasks.domain.provided_machines import ProviderAct
from tasks.domain.states import OperationState
from tasks.records import schema
from tasks.records.components import SqlComponents
from tasks.records.left_disks import find_left_disks
from tasks.records.queries.history import History
from tasks.records.retention import prune_history
from tasks.records.setup import open_records
from tests.contract.cli.conftest import Said, Stage
from tests.support.components import make_component
from tests.support.fake_provider import ProviderFault
from tests.support.image_fleet import NEW, OLD, ImageFleet

QUICK = ("--yes", "--no-prefect", "--json")
FILE = f"""
images:
  - name: debian/12/stable
    versions: [{{version: "{OLD}", reference: /images/old}}, {{version: "{NEW}", reference: /images/new}}]
groups:
  - {{name: web, image: debian/12/stable, scope: all, cross_zone: true}}
"""


COMPONENTS = f"""
components:
  - name: agent
    kind: file
    system: linux
    version: {{command: agent --version, pattern: "version ([0-9.]+)"}}
    install: install-agent
    versions: [{{version: 1.0.0, url: "https://x.test/agent", sha256: {"a" * 64}}}]
"""


class Site:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        stage.defaults["provider"] = "host"
        (stage.folder / "providers.yaml").write_text("providers: [{name: host, kind: command, command: ask}]\n")
        self.machines = ImageFleet(5, fleet=stage.fleet, components=(make_component("agent"),), had={"agent": "1.0.0"})
        self.write(FILE)

    def write(self, text: str) -> None:
        (self.stage.folder / "images.yaml").write_text(text)

    def run(self, *words: str) -> Said:
        return self.stage.run("images", *words)

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["machineName"]: row for row in self.run("list", "--json").json["images"]}

    def attempts(self) -> list[dict[str, Any]]:
        upgrades: list[dict[str, Any]] = self.run("history", "web", "--json").json["upgrades"]
        return upgrades


@pytest.fixture
def site(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site(stage)
    monkeypatch.setattr("tasks.domain.protocols.clock.SystemClock", lambda: stage.fleet.clock)
    plain = Stage.ports

    def with_images(self: Stage, who: Caller) -> Ports:
        ports = plain(self, who)
        inventory = replace(ports.inventory, source=self.inventory)
        records = open_records(who.records_url)
        components = FleetComponents(records, inventory, self.inventory, ports.clock, print, replaces_disks=True)
        images = FleetImages(records, inventory, print, "", components.enrolled)
        return replace(
            ports,
            inventory=inventory,
            list_components=lambda machine: (*components.list_components(machine), *images.list_components(machine)),
            find_component_order=images.find_order,
            find_withdrawal=images.find_withdrawal,
            open_provider=made.machines.hypervisor.open,
        )

    monkeypatch.setattr(Stage, "ports", with_images)
    monkeypatch.setattr("flows.disk_cleaning.open_ports", lambda _request, who: nullcontext(stage.ports(who)))
    yield made
    assert made.machines.broken() == []


def test_a_group_is_upgraded_and_its_history_tells_it(site: Site) -> None:
    assert {row["standing"] for row in site.rows().values()} == {"Unknown"}  # nobody has asked yet
    said = site.run("upgrade", "web", *QUICK)
    assert said.code == 0, said.err
    assert set(site.machines.versions.values()) == {NEW}
    (attempt,) = site.attempts()
    counts = {key: attempt[f"{key}InstanceCount"] for key in ("successful", "failed", "inProgress", "pending")}
    assert counts == {"successful": 5, "failed": 0, "inProgress": 0, "pending": 0}
    assert (attempt["code"], attempt["errorCode"], attempt["version"]) == ("Completed", None, NEW)
    assert (attempt["startedBy"], attempt["groupName"]) == ("User", "web")
    row = site.rows()["m1"]
    assert (row["standing"], row["installed"], row["automaticUpgradeStatus"]) == ("Current", NEW, "Enabled")
    assert "Completed" in site.run("history", "web").out


def test_components_come_again_and_the_history_tells_it(site: Site) -> None:
    (site.stage.folder / "components.yaml").write_text(COMPONENTS)
    said = site.run("upgrade", "web", *QUICK)
    assert said.code == 0, said.err
    assert [on.versions for on in site.machines.on.values()] == [{"agent": "1.0.0"}] * 5
    assert site.attempts()[0]["components"] == ["agent 1.0.0: 5"]
    assert "agent 1.0.0:" in site.run("history", "web").out
    with open_records(f"sqlite:///{site.stage.folder / 'records.db'}") as records:
        components = SqlComponents(records.database)
        assert components.read_tries("agent") == (), "a new disk is no upgrade of what is on it"
        assert len(components.read_tries("image:web")) == 5


def test_while_components_yaml_has_faults_no_disk_is_replaced(site: Site) -> None:
    (site.stage.folder / "components.yaml").write_text("components: [{name: agent}]\n")
    said = site.run("upgrade", "web", *QUICK)
    assert said.code == 2
    assert "components.yaml" in said.out
    assert site.machines.hypervisor.orders == []


def test_a_disk_with_a_component_that_is_enrolled_and_not_in_the_file_is_not_replaced(site: Site) -> None:
    with open_records(None) as records:
        SqlComponents(records.database).enrol(ComponentEnrolment("agent", "m1", "anne", site.stage.fleet.clock.now()))
    site.run("upgrade", "web", *QUICK)
    assert site.machines.orders_of("m1") == []
    assert site.machines.versions == {"m1": OLD} | {f"m{number}": NEW for number in range(2, 6)}


def test_all_automatic_groups_are_upgraded_and_a_bad_version_goes_back(site: Site) -> None:
    site.machines.bad = {(name, NEW) for name in site.machines.versions}
    said = site.run("upgrade", *QUICK)
    assert said.code != 0
    assert set(site.machines.versions.values()) == {OLD}
    (attempt,) = site.attempts()
    assert attempt["code"] == "Faulted"
    assert attempt["errorCode"] == "MaxUnhealthyUpgradedInstancePercentExceededInRollingUpgrade"
    assert (attempt["successfulInstanceCount"], attempt["failedInstanceCount"]) == (0, 1)
    assert (attempt["pendingInstanceCount"], attempt["successfullyRolledbackInstanceCount"]) == (4, 1)
    assert site.rows()["m2"]["standing"] == "RetryLater"
    assert "Nothing is due" in site.run("upgrade", "--yes", "--no-prefect").out


def test_a_person_who_starts_it_puts_nothing_back_unless_asked(site: Site) -> None:
    site.machines.bad = {("m1", NEW)}
    site.run("upgrade", "web", *QUICK)
    assert site.machines.versions["m1"] == NEW
    (attempt,) = site.attempts()
    assert (attempt["successfullyRolledbackInstanceCount"], attempt["failedRolledbackInstanceCount"]) == (0, 1)


def test_what_became_of_each_machine_can_be_asked_in_sql(site: Site) -> None:
    site.machines.bad = {("m2", NEW)}
    site.machines.hypervisor.faults[ProviderAct.REPLACE_OS_DISK] = [ProviderFault.REFUSED]
    site.run("upgrade", "web", "--roll-back", *QUICK)
    columns = "machine, version_before, version, version_after, state, is_healthy, put_back, error"
    sql = f"SELECT {columns}, reason FROM image_upgrades WHERE \"group\" = 'web' ORDER BY machine"
    rows = [list(row.values()) for row in site.stage.run("query", sql, "--json").json["rows"]]
    assert [row[:-2] for row in rows] == [
        ["m1", OLD, NEW, OLD, "Failed", False, None],
        ["m2", OLD, NEW, OLD, "Failed", False, True],
    ]
    assert rows[0][-1] == "replace-os-disk was refused"
    assert "its disk before is back" in rows[1][-1]
    assert {row[-2] for row in rows} == {"MaxUnhealthyUpgradedInstancePercentExceededInRollingUpgrade"}


def test_a_person_may_order_the_way_back(site: Site) -> None:
    site.machines.bad = {("m1", NEW)}
    site.run("upgrade", "web", "--roll-back", *QUICK)
    assert site.machines.versions["m1"] == OLD


def test_a_group_that_opted_out_waits_for_a_person(site: Site) -> None:
    site.write(FILE.replace("cross_zone: true", "cross_zone: true, automatic: false"))
    assert "Nothing is due" in site.run("upgrade", "--yes", "--no-prefect").out
    assert set(site.machines.versions.values()) == {OLD}
    assert site.run("upgrade", "web", *QUICK).code == 0
    assert set(site.machines.versions.values()) == {NEW}


def test_replaced_disks_are_deleted_when_their_days_are_over(site: Site) -> None:
    assert site.run("upgrade", "web", *QUICK).code == 0
    assert site.run("clean", "--json").json == {"disks": []}
    site.stage.fleet.clock.advance(7.5 * 24 * 3600)
    disks = site.run("clean", "--json").json["disks"]
    assert [(disk["machineName"], disk["deleted"]) for disk in disks] == [(f"m{n}", True) for n in range(1, 6)]
    assert not any(machine.kept_disks for machine in site.machines.hypervisor.machines.values())
    assert "No replaced OS disk is due" in site.run("clean").out


def test_the_way_back_of_a_machine_that_failed_is_never_forgotten(site: Site) -> None:
    site.machines.bad = {("m1", NEW)}
    site.run("upgrade", "web", *QUICK)
    site.stage.fleet.clock.advance(30 * 24 * 3600)
    said = site.run("clean", "--json")
    assert said.code == 3
    (told,) = said.json["disks"]
    assert (told["machineName"], told["state"], told["deleted"]) == ("m1", "WayBack", False)
    with open_records(None) as records:
        (left,) = find_left_disks(records.database)
        assert prune_history(records, site.stage.fleet.clock.now()).runs == 0
        (finding,) = [one for one in check_installation(None) if one.check == "OS disks"]
    assert (left.machine, left.order_id, left.version) == ("m1", told["diskId"], NEW)
    assert "1 OS disk of before is kept, because upgrades failed: m1" in finding.message
    assert site.run("clean", "--failed", "m2", "--yes").code != 0
    said = site.run("clean", "--failed", "m1", "--yes", "--json")
    assert [disk["deleted"] for disk in said.json["disks"]] == [True]
    assert said.code == 0
    assert not site.machines.hypervisor.machines["m1"].kept_disks
    assert site.run("clean", "--json").json == {"disks": []}


def test_the_disk_of_a_machine_without_a_result_is_never_forgotten(site: Site) -> None:
    site.machines.bad = {("m1", NEW)}
    site.run("upgrade", "web", *QUICK)
    with open_records(None) as records:
        (before,) = find_left_disks(records.database)
        # as of a machine that left the inventory while its run was resumed
        unknown = Outcome(before.run_id, "m1", OperationState.UNKNOWN, "it is no longer in the inventory", wave=1)
        with records.database.begin_write("forget") as connection:
            connection.execute(delete(schema.outcomes).where(schema.outcomes.c.machine == "m1"))
        assert find_left_disks(records.database) == (before,)
        records.save(unknown)
        assert find_left_disks(records.database) == (before,)
        run = History(records).find_run(before.run_id)
        records.save(replace(run, state=OperationState.UNKNOWN))
        assert find_left_disks(records.database) == ()
        assert prune_history(records, site.stage.fleet.clock.now()).runs == 0, "an unfinished run may need it"
        records.save(run)
    assert [disk["state"] for disk in site.run("clean", "--json").json["disks"]] == ["WayBack"]


@pytest.mark.parametrize("rolls_back", [True, False])
def test_a_disk_of_before_that_had_no_known_version_is_back_or_left(site: Site, rolls_back: bool) -> None:
    machines = site.machines.hypervisor.machines
    machines["m1"] = replace(machines["m1"], disks=tuple(replace(disk, image="") for disk in machines["m1"].disks))
    site.machines.bad = {("m1", NEW)}
    site.run("upgrade", "web", "--to", NEW, *(["--roll-back"] if rolls_back else []), *QUICK)
    (attempt,) = site.attempts()
    counts = (attempt["successfullyRolledbackInstanceCount"], attempt["failedRolledbackInstanceCount"])
    assert counts == (int(rolls_back), int(not rolls_back))
    states = [(disk["machineName"], disk["state"]) for disk in site.run("clean", "--json").json["disks"]]
    assert states == ([] if rolls_back else [("m1", "WayBack")])


def test_a_disk_of_before_that_its_provider_does_not_have_is_looked_for_twice(site: Site) -> None:
    site.machines.bad = {("m1", NEW)}
    site.run("upgrade", "web", *QUICK)
    machines, states = site.machines.hypervisor.machines, []
    machines["m1"] = replace(machines["m1"], kept_disks=())
    for _ in range(3):
        states += [(disk["machineName"], disk["state"]) for disk in site.run("clean", "--json").json["disks"]]
        site.stage.fleet.clock.advance(60)
    assert states == [("m1", "NotFound")] * 2


def test_a_machine_that_was_put_back_or_refused_has_left_no_disk(site: Site) -> None:
    site.machines.bad = {("m2", NEW)}
    site.machines.hypervisor.faults[ProviderAct.REPLACE_OS_DISK] = [ProviderFault.REFUSED]
    site.run("upgrade", "web", "--roll-back", *QUICK)
    assert site.run("clean", "--json").json == {"disks": []}


def test_a_machine_of_a_run_without_an_end_keeps_its_disk(site: Site) -> None:
    assert site.run("upgrade", "web", *QUICK).code == 0
    site.stage.fleet.clock.advance(7.5 * 24 * 3600)
    run_id = site.stage.left_half_way()
    said = site.run("clean", "--json")
    assert said.code == 3
    assert [(disk["state"], disk["deleted"]) for disk in said.json["disks"]] == [("Kept", False)] * 5
    assert all(run_id in disk["message"] for disk in said.json["disks"])
    assert all(machine.kept_disks for machine in site.machines.hypervisor.machines.values())


def test_a_plan_changes_nothing(site: Site) -> None:
    said = site.run("plan", "web", "--json")
    assert said.code == 0
    assert site.machines.hypervisor.orders == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("upgrade", "wbe", *QUICK), "Did you mean 'web'"),
        (("upgrade", "web", "--to", "9.9", *QUICK), "image:web has no version '9.9'"),
        (("upgrade", "--to", NEW, *QUICK), "--to needs a group"),
        (("history", "nobody"), "there is no group 'nobody'"),
    ],
)
def test_what_can_not_be_is_refused_with_a_remedy(site: Site, words: tuple[str, ...], told: str) -> None:
    said = site.run(*words)
    assert said.code != 0
    assert told in said.out + said.err
    assert site.machines.hypervisor.orders == []


def test_the_schema_is_printed(site: Site, tmp_path: Path) -> None:
    assert site.run("schema").json["title"] == "fleetpatch images"
    (tmp_path / "images.yaml").unlink()
    assert "There is no file of images" in site.run("list").err
