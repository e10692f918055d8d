"""Finding an inventory, directories of files, and the schema for editors."""

import json
from pathlib import Path

import pytest

from inventory.errors import InvalidInventory, InventoryError
from inventory.loader import find_inventory, load_inventory
from inventory.machine import HostKeyPolicy, Limits
from inventory.schema.entries import build_json_schema

DATA = Path(__file__).parents[2] / "data" / "inventories"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory and a user's configuration that hold nothing."""
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("FLEETPATCH_INVENTORY", raising=False)
    return tmp_path


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("machines: [a]\n")
    return path


def test_finds_in_order(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = touch(elsewhere / "config" / "fleetpatch" / "fleet.yaml")
    assert find_inventory() == user
    here = touch(elsewhere / "desk" / "fleet.yaml")
    assert find_inventory() == here
    named = touch(elsewhere / "named.yaml")
    monkeypatch.setenv("FLEETPATCH_INVENTORY", str(named))
    assert find_inventory() == named
    explicit = touch(elsewhere / "explicit.yaml")
    assert find_inventory(explicit) == explicit


def test_what_is_named_must_exist(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(elsewhere / "desk" / "fleet.yaml")
    with pytest.raises(InventoryError, match="no such file, named on the command line") as caught:
        find_inventory(elsewhere / "none.yaml")
    assert caught.value.file == elsewhere / "none.yaml"
    monkeypatch.setenv("FLEETPATCH_INVENTORY", str(elsewhere / "none.yaml"))
    with pytest.raises(InventoryError, match="named by FLEETPATCH_INVENTORY"):
        find_inventory()


def test_says_where_it_looked(elsewhere: Path) -> None:
    with pytest.raises(InventoryError, match="there is no inventory") as caught:
        find_inventory()
    assert str(elsewhere / "desk" / "fleet.yaml") in str(caught.value)
    assert str(elsewhere / "config" / "fleetpatch" / "fleet.yaml") in str(caught.value)
    assert "FLEETPATCH_INVENTORY" in caught.value.hint


def test_a_directory_is_one_inventory() -> None:
    inventory = load_inventory(DATA / "split")
    assert [machine.name for machine in inventory.machines] == ["a-1", "b-1", "b-2"]
    assert inventory.find_machine("a-1").jump == ("b-1",)
    assert inventory.find_machine("b-1").limits == Limits(max_reboots=2)
    assert inventory.find_machine("b-2").groups == ("web", "db")
    assert inventory.host_keys.policy is HostKeyPolicy.LEARN
    assert inventory.source == DATA / "split"


def test_duplicates_across_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("host_keys: {policy: ca}\nmachines: [x]\n")
    (tmp_path / "b.csv").write_text("name\nx\n")
    (tmp_path / "c.yml").write_text("host_keys: {policy: learn}\n")
    (tmp_path / "hosts").write_text("y ansible_host=x\n")
    with pytest.raises(InvalidInventory) as caught:
        load_inventory(tmp_path)
    found = {(fault.file.name if fault.file else "", fault.line): fault.message for fault in caught.value.problems}
    assert "'x' stands here twice, first in a.yaml:2" in found["b.csv", 2]
    assert "`host_keys` stands here again, first in a.yaml:1" in found["c.yml", 1]
    assert "'y' is reached just as 'x' in a.yaml:2" in found["hosts", 1]
    assert len(found) == 3


def test_what_a_directory_leaves_out_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / "fleet.yaml")
    for quiet in (".hidden.yaml", "notes.md", "old.yaml~", "fleet.bak"):
        (tmp_path / quiet).write_text("nonsense: [")
    (tmp_path / "keys").mkdir()
    (tmp_path / "known_hosts").write_text("")
    assert len(load_inventory(tmp_path).machines) == 1
    (record,) = caplog.records
    assert "known_hosts is no inventory by its name" in record.message


def test_programs_are_not_run(tmp_path: Path) -> None:
    program = tmp_path / "ec2.py"
    program.write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    program.chmod(0o755)
    for path in (tmp_path, program):
        with pytest.raises(InvalidInventory, match="this is a program") as caught:
            load_inventory(path)
        assert "ansible-inventory -i FILE --list --yaml" in caught.value.hint
    assert not (tmp_path / "ran").exists()


def test_an_empty_directory_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInventory, match="describes no machine") as caught:
        load_inventory(tmp_path)
    assert caught.value.file == tmp_path
    with pytest.raises(InvalidInventory, match="can't be read") as caught:
        load_inventory(tmp_path / "none.yaml")
    assert "Correct the path" in caught.value.hint


def test_paths_do_not_depend_on_the_working_directory(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "host_keys: {known_hosts: pins}\nmachines: [{name: a, credential: key:id}]\n"
    (elsewhere / "desk" / "fleet.yaml").write_text(text)
    inventory = load_inventory(Path("fleet.yaml"))
    assert inventory.host_keys.known_hosts == elsewhere / "desk" / "pins"
    assert inventory.machines[0].credential == f"key:{elsewhere}/desk/id"


def test_home_in_known_hosts_is_expanded(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    path = elsewhere / "fleet.yaml"
    path.write_text("host_keys: {known_hosts: ~/pins}\nmachines: [a]\n")
    assert load_inventory(path).host_keys.known_hosts == Path("/home/someone/pins")


def test_json_schema_for_editors() -> None:
    schema = build_json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert set(schema["properties"]) == {"defaults", "groups", "machines", "host_keys", "limits", "sets"}
    machine = schema["$defs"]["MachineEntry"]
    assert machine["additionalProperties"] is False
    assert machine["required"] == ["name"]
    assert {"transport", "tags", "pre_checks", "jump"} <= set(machine["properties"])
    assert schema["$defs"]["TransportKind"]["enum"] == ["ssh", "winrm", "local"]
    assert "never a secret" in machine["properties"]["credential"]["description"]
