"""The file of providers, and the machines that name them."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from fleetpatch.cli.commands.providers import _ask, _describe
from flows.installation_checks import _check_providers
from flows.machine_providers.fleet_providers import FleetProviders
from flows.machine_providers.provider_file import InvalidProviders, load_providers
from inventory.credentials import Credential
from inventory.errors import InvalidInventory
from inventory.loader import load_inventory
from inventory.machine import Inventory, Machine
from inventory.machine_providers import (
    EXPERIMENTAL_KINDS,
    ProviderKind,
    ProviderSettings,
    find_provider_machine_id,
    find_provider_name,
)
from tasks.domain.errors import RequestError
from tasks.domain.protocols.clock import SystemClock
from tasks.domain.protocols.transport import Transport
from tasks.domain.states import FindingLevel
from tasks.machines.providers.registry import GuardedProvider
from tests.support.fake_clock import FakeClock
from tests.support.fake_provider import FakeHypervisor, FakeProvider
from tests.support.fake_transport import FakeTransport
from tests.support.provider_records import KeptRecords, NoGuard, NoWatch


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
        ("- {name: lab, kind: lvm, region: x}", "`region` is not for `kind: lvm`", "Remove it."),
        ("- {name: lab, kind: lvm, experimental: true}", "`experimental` is not for `kind: lvm`", "Remove it."),
        ("- {name: lab, kind: aws, region: x}", "`kind: aws` is experimental", "write `experimental: true`"),
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


@pytest.mark.parametrize("kind", ["proxmox", "vsphere"])
def test_a_hypervisor_without_a_provider_of_its_own_leads_to_a_command(tmp_path: Path, kind: str) -> None:
    text = f"providers:\n- {{name: own, kind: lvm}}\n- name: lab\n  user: u\n  kind: {kind}\n  experimental: true\n"
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
    assert "libvirt, lvm, btrfs, command, aws, azure" in problem.message


@pytest.mark.parametrize("kind", sorted(EXPERIMENTAL_KINDS))
def test_an_experimental_provider_works_only_if_its_own_entry_says_so(tmp_path: Path, kind: str) -> None:
    entry = f"- name: cloud\n  kind: {kind}\n  {'resource' if kind == 'azure' else 'region'}: x\n"
    others = "providers:\n- {name: lab, kind: libvirt, host: hyp}\n"
    for refused in (entry, f"{entry}  experimental: false\n"):
        with pytest.raises(InvalidProviders) as raised:
            load_providers(load(tmp_path, others + refused))
        (problem,) = raised.value.problems
        lines = (others + refused).splitlines()
        line = lines.index("  experimental: false") if "false" in refused else lines.index("- name: cloud")
        assert (problem.file, problem.line) == (tmp_path / "providers.yaml", line + 1)
        assert problem.key == "providers.1.experimental"
    loaded = load_providers(load(tmp_path, f"{others}{entry}  experimental: true\n"))
    assert loaded["cloud"].kind == kind


def test_doctor_tells_experimental_providers_and_a_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = "- {name: cloud, kind: azure, resource: x, experimental: true}"
    load(tmp_path, f"providers:\n- {{name: lab, kind: lvm}}\n{entry}\n")
    monkeypatch.setenv("FLEETPATCH_INVENTORY", str(tmp_path / "fleet.yaml"))
    (finding,) = _check_providers()
    assert (finding.level, finding.check) == (FindingLevel.REMARK, "provider")
    assert finding.message.startswith("cloud is experimental: providers of kind azure were never run")
    load(tmp_path, f"providers:\n{entry.replace('true', 'false')}\n")
    (finding,) = _check_providers()
    assert finding.level is FindingLevel.BLOCK
    assert "experimental: true" in finding.remedy


@pytest.mark.parametrize("kind", ["libvirt", "aws"])
def test_the_list_of_providers_marks_experimental_ones(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hypervisor, clock = FakeHypervisor(), FakeClock()
    hypervisor.add_machine("w1")
    monkeypatch.setattr(FakeProvider, "kind", kind)
    machine = Machine("web", "web", provider="lab/w1")
    provider = GuardedProvider(FakeProvider(hypervisor, "w1"), clock, 60, NoGuard(), NoWatch())
    answer = _ask(SimpleNamespace(open_provider=lambda _: provider, clock=clock), machine)  # type: ignore[arg-type]
    assert answer["experimental"] is (kind == "aws")
    assert ("experimental: aws was never run on the real thing" in _describe(answer)) is (kind == "aws")


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


def resolve_none(_reference: str) -> Credential:
    raise AssertionError


def test_a_provider_that_the_file_lacks_is_named(tmp_path: Path) -> None:
    inventory = load(tmp_path, "providers:\n- {name: laboratory, kind: lvm}\n")

    providers = FleetProviders(inventory, SystemClock(), connect_none, resolve_none, KeptRecords())
    with pytest.raises(RequestError, match="there is no provider 'lab'"):
        providers.open(inventory.find_machine("web"))
    assert providers.open(inventory.find_machine("hyp")) is None


def test_a_file_that_changes_in_the_middle_of_a_run_does_not_change_that_run(tmp_path: Path) -> None:
    inventory, clock = load(tmp_path, "providers:\n- {name: lab, kind: lvm}\n"), FakeClock()

    def begin_run() -> FleetProviders:
        return FleetProviders(inventory, clock, lambda _machine: FakeTransport(clock), resolve_none, KeptRecords())

    def find_kind(run: FleetProviders) -> str | None:
        provider = run.open(inventory.find_machine("web"))
        return provider.kind if provider is not None else None

    run = begin_run()
    assert find_kind(run) == ProviderKind.LVM
    load(tmp_path, "providers:\n- {name: lab, kind: btrfs}\n")
    assert (find_kind(run), find_kind(begin_run())) == (ProviderKind.LVM, ProviderKind.BTRFS)
    (tmp_path / "providers.yaml").write_text("providers: broken")
    assert find_kind(run) == ProviderKind.LVM
