"""Which components the ports of a run know before OS disks are replaced: with real records and files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flows.components.component_file import InvalidComponents
from flows.composition import open_ports
from flows.ports.caller import Caller
from flows.request.patch_request import PatchRequest
from inventory.machine import Machine
from tasks.domain.components import ComponentEnrolment
from tasks.records.components import SqlComponents
from tasks.records.setup import open_records
from tests.support.builders import START

INVENTORY = """
machines:
  - {name: m1, address: m1.test, provider: host, tags: {role: web}}
  - {name: m2, address: m2.test, provider: host}
"""
IMAGES = """
images: [{name: debian/12/stable, versions: [{version: "12.1", reference: /images/old}]}]
groups: [{name: web, image: debian/12/stable, scope: all}]
"""
VERSION = f"versions: [{{version: 1.0.0, url: https://x.test/a, sha256: {'a' * 64}}}]"
COMPONENTS = f"""
components:
  - {{name: shop, kind: deb, after: [agent], {VERSION}}}
  - {{name: agent, kind: deb, {VERSION}}}
  - {{name: service, kind: msi, {VERSION}}}
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(components: str = "") -> Path:
        for name, text in (
            ("fleet.yaml", INVENTORY),
            ("providers.yaml", "providers: [{name: host, kind: command, command: ask}]\n"),
            ("images.yaml", IMAGES),
            ("components.yaml", components),
        ):
            if text:
                (tmp_path / name).write_text(text)
        return tmp_path / "fleet.yaml"

    return write


def open_for(inventory: Path, component: str) -> tuple[list[list[str]], dict[str, tuple[str, ...]]]:
    """Return the names of the components that each machine is asked for, and those that are enrolled there."""
    request = PatchRequest(scope="*", inventory=inventory, component=component)
    with open_ports(request, Caller(records_url=records_of(inventory))) as ports:
        machines: tuple[Machine, ...] = ports.inventory.machines
        enrolled = ports.find_component_order(component, "").enrolled if component else {}
        return [[one.name for one in ports.list_components(machine)] for machine in machines], dict(enrolled)


def records_of(inventory: Path) -> str:
    return f"sqlite:///{inventory.parent / 'records.db'}"


def test_machines_are_asked_for_all_components_before_a_new_disk(write: Write) -> None:
    inventory = write(COMPONENTS)
    with open_records(records_of(inventory)) as records:
        SqlComponents(records.database).enrol(ComponentEnrolment("shop", "role=web", "ann", START))
    asked, enrolled = open_for(inventory, "image:web")
    assert asked == [["agent", "shop", "image:web"]] * 2
    assert enrolled == {"m1": ("shop",)}
    assert open_for(inventory, "")[0] == [["shop", "image:web"], ["image:web"]]


def test_without_the_file_there_is_nothing_to_ask(write: Write) -> None:
    assert open_for(write(), "image:web") == ([["image:web"]] * 2, {})


def test_a_file_with_faults_ends_a_run_that_replaces_disks_and_no_other(write: Write) -> None:
    inventory = write("components: [{name: agent}]\n")
    with pytest.raises(InvalidComponents, match=r"components\.yaml"):
        open_for(inventory, "image:web")
    assert open_for(inventory, "")[0] == [["image:web"]] * 2
