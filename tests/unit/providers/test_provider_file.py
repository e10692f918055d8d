"""The file of providers, and the machines that name them."""

from pathlib import Path

import pytest

from flows.installation_checks import _check_providers
from flows.machine_providers.fleet_providers import FleetProviders
from flows.machine_providers.provider_file import InvalidProviders, load_providers
from inventory.errors import InvalidInventory
from inventory.loader import load_inventory
from inventory.machine import Inventory, Machine
from inventory.machine_providers import (
    ProviderKind,
    ProviderSettings,
    find_provider_machine_id,
    find_provider_name,
)
from tasks.domain.errors import RequestError
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.protocols.transport import Transport
from tasks.domain.states import FindingLevel
from tests.support.fake_clock import FakeClock
from tests.support.fake_transport import FakeTransport
from tests.support.provider_records import KeptRecords


def load(
    folder: Path, providers: str, machines: str = "machines:\n- name: hyp\n- {name: web, provider: lab/w1}\n"
) -> Inventory:
    (folder / "fleet.yaml").write_text(machines)
    (folder / "providers.yaml").write_text(providers)
    return load_inventory(folder / "fleet.yaml")


def test_a_machine_names_its_provider_and_itself_there(tmp_path: Path) -> None:
    inventory = load(tmp_path, "providers:\n- {name: lab, kind: libvirt, host: hyp}\n")
    web = inventory.find_machine("web")
    assert (find_provider_name(web), find_provider_machine_id(web)) == ("lab", "w1")
    assert load_providers(inventory) == {"lab": ProviderSettings("lab", ProviderKind.LIBVIRT, host="hyp")}


def test_without_an_id_it_is_the_name_of_the_machine() -> None:
    assert find_provider_machine_id(Machine("db", "db", provider="own")) == "db"
    assert find_provider_name(Machine("db", "db")) == ""


@pytest.mark.parametrize(
    ("providers", "message", "hint"),
    [
        ("- {name: lab, kind: libvirt}", "`kind: libvirt` needs `host`", "Give `host`."),
        ("- {name: lab, kind: libvirt, host: hyb}", "is called 'hyb'", "Did you mean 'hyp'?"),
        ("- {name: lab, kind: lvm, host: hyp}", "`host` is not for `kind: lvm`", "Remove it."),
        ("- {name: lab, kind: lvm}\n- {name: lab, kind: btrfs}", "'lab' is here a second time", "Rename it."),
    ],
)  # fmt: skip
def test_problems_name_their_place_and_remedy(tmp_path: Path, providers: str, message: str, hint: str) -> None:
    inventory = load(tmp_path, f"providers:\n{providers}\n")
    with pytest.raises(InvalidProviders) as raised:
        load_providers(inventory)
    (problem,) = raised.value.problems
    assert message in problem.message
    assert hint in problem.hint
    assert problem.file == tmp_path / "providers.yaml"


@pytest.mark.parametrize("kind", ["aws", "azure", "proxmox", "vsphere"])
def test_a_hypervisor_without_a_provider_of_its_own_leads_to_a_command(tmp_path: Path, kind: str) -> None:
    text = f"providers:\n- {{name: own, kind: lvm}}\n- name: lab\n  timeout_minutes: 9\n  kind: {kind}\n"
    with pytest.raises(InvalidProviders) as raised:
        load_providers(load(tmp_path, text))
    (problem,) = raised.value.problems
    assert (problem.file, problem.line, problem.key) == (tmp_path / "providers.yaml", 5, "providers.1.kind")
    assert f"providers.yaml:5: providers.1.kind: fleetpatch has no provider of kind {kind!r}" in str(raised.value)
    assert "`kind: command`" in problem.hint


@pytest.mark.parametrize("kind", ["hyperv", "[proxmox]", "{vsphere: 1}", "7"])
def test_a_kind_that_is_none_is_told_with_those_that_are(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InvalidProviders) as raised:
        load_providers(load(tmp_path, f"providers:\n- name: lab\n  kind: {kind}\n"))
    (problem,) = raised.value.problems
    assert (problem.line, problem.key) == (3, "providers.0.kind")
    assert "libvirt, lvm, btrfs, command" in problem.message


def test_doctor_tells_a_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tmp_path, "providers:\n- {name: lab, kind: lvm}\n")
    monkeypatch.setenv("FLEETPATCH_INVENTORY", str(tmp_path / "fleet.yaml"))
    assert list(_check_providers()) == []
    load(tmp_path, "providers:\n- {name: cloud, kind: azure}\n")
    (finding,) = _check_providers()
    assert (finding.level, finding.check) == (FindingLevel.BLOCK, "provider")
    assert "`kind: command`" in finding.remedy


def test_one_machine_of_a_provider_is_one_machine_of_the_inventory(tmp_path: Path) -> None:
    machines = "machines:\n- {name: a, provider: lab/vm}\n- {name: b, provider: lab/vm}\n- {name: vm, provider: lab}\n"
    with pytest.raises(InvalidInventory, match="is the same machine of the provider 'lab' as 'a'") as raised:
        load(tmp_path, "providers: []", machines)
    assert len(raised.value.problems) == 2


@pytest.mark.parametrize("text", ["/x", "lab/", "la b", "-x", "lab/-x", "lab/a\nb"])
def test_what_is_no_provider_is_refused(tmp_path: Path, text: str) -> None:
    machines = f"machines:\n- name: a\n  provider: {text!r}\n"
    with pytest.raises(InvalidInventory):
        load(tmp_path, "providers: []", machines.replace("'lab/a\\nb'", '"lab/a\\nb"'))


def connect_none(_machine: object) -> Transport:
    raise AssertionError


def test_a_provider_that_the_file_lacks_is_named(tmp_path: Path) -> None:
    inventory = load(tmp_path, "providers:\n- {name: laboratory, kind: lvm}\n")

    providers = FleetProviders(inventory, SystemClock(), connect_none, KeptRecords())
    with pytest.raises(RequestError, match="there is no provider 'lab'"):
        providers.open(inventory.find_machine("web"))
    assert providers.open(inventory.find_machine("hyp")) is None


def test_a_file_that_changes_in_the_middle_of_a_run_does_not_change_that_run(tmp_path: Path) -> None:
    inventory, clock = load(tmp_path, "providers:\n- {name: lab, kind: lvm}\n"), FakeClock()

    def begin_run() -> FleetProviders:
        return FleetProviders(inventory, clock, lambda _machine: FakeTransport(clock), KeptRecords())

    def find_kind(run: FleetProviders) -> str | None:
        provider = run.open(inventory.find_machine("web"))
        return provider.kind if provider is not None else None

    run = begin_run()
    assert find_kind(run) == ProviderKind.LVM
    load(tmp_path, "providers:\n- {name: lab, kind: btrfs}\n")
    assert (find_kind(run), find_kind(begin_run())) == (ProviderKind.LVM, ProviderKind.BTRFS)
    (tmp_path / "providers.yaml").write_text("providers: broken")
    assert find_kind(run) == ProviderKind.LVM
