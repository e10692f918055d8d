"""Who patches machines, written back into the inventory's own files: only that changes, or nothing does."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inventory.editing.csv_edits import set_csv_cells
from inventory.editing.file_replacement import replace_file
from inventory.editing.owner_plan import OwnerPlan, plan_owner_change
from inventory.editing.text_edits import CannotEdit
from inventory.editing.yaml_edits import set_yaml_keys
from inventory.errors import InvalidInventory, InventoryError
from inventory.loader import load_inventory
from inventory.machine import PatchOwner

Write = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_files(files: Mapping[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text.encode())
        return tmp_path if len(files) > 1 and "fleet" in next(iter(files)) else tmp_path / next(iter(files))

    return write_files


def carry_out(source: Path, names: Sequence[str], owner: PatchOwner) -> OwnerPlan:
    """Write a planned change, and require that the inventory differs in nothing but these owners."""
    before = load_inventory(source)
    plan = plan_owner_change(source, names, owner)
    for edit in plan.edits:
        replace_file(edit.path, edit.before, edit.after)
    after = load_inventory(source)
    changed = {name for edit in plan.edits for name in edit.machines}
    assert changed | set(plan.unchanged) | plan.refused.keys() == set(names)
    for old, new in zip(before.machines, after.machines, strict=True):
        assert new.owner is (owner if old.name in changed else old.owner)
        assert {**vars_of(old), "owner": ""} == {**vars_of(new), "owner": ""}
    return plan


def vars_of(machine: object) -> dict[str, object]:
    return {name: getattr(machine, name) for name in machine.__slots__}  # type: ignore[attr-defined]


FLEET = """\
# who: ops 😀
defaults: {owner: managed}   # ünïcode
machines:
  # the first one
  - name: web-1   # its name
    address:   192.0.2.1

  - {name: "web-2", address: 192.0.2.2} # flow
  - address: 192.0.2.3
    name: web-3
    owner:   os   # keep
  - name: web-4
    owner:
  - name: db-[1:2]
"""


@pytest.mark.parametrize("shape", [str, lambda text: text.replace("\n", "\r\n"), str.rstrip])
def test_comments_order_and_blanks_of_yaml_stay(write: Write, shape: Callable[[str], str]) -> None:
    source = write({"fleet.yaml": shape(FLEET)})
    plan = carry_out(source, ["web-1", "web-2", "web-3", "web-4", "db-1", "db-2"], PatchOwner.MANUAL)
    assert source.read_bytes().decode() == shape(
        FLEET.replace("# its name\n", "# its name\n    owner: manual\n")
        .replace('"web-2",', '"web-2", owner: manual,')
        .replace("owner:   os ", "owner:   manual ")
        .replace("owner:\n", "owner: manual\n")
        .replace("db-[1:2]\n", "db-[1:2]\n    owner: manual\n")
    )
    assert "-    owner:   os   # keep\n+    owner:   manual   # keep\n" in plan.edits[0].build_diff().replace("\r", "")
    again = plan_owner_change(source, ["web-1"], PatchOwner.MANUAL)
    assert (again.edits, again.unchanged) == ((), ("web-1",))


def test_a_range_of_which_only_some_were_selected_is_left_with_the_remedy(write: Write) -> None:
    plan = carry_out(write({"fleet.yaml": FLEET}), ["db-1", "web-1"], PatchOwner.OS)
    assert [edit.machines for edit in plan.edits] == [("web-1",)]
    error = plan.refused["db-1"]
    assert str(error).endswith("fleet.yaml:14: its entry also stands for db-2")
    assert "an entry of their own" in error.hint


ALONE = "without a change of something else"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("machines: [&a {name: a, address: x}, {<<: *a, name: b, address: y}]", ALONE),
        ("defaults: {owner: &o os}\nmachines:\n- {name: a, owner: *o}\n", "the value is an alias"),
        ("machines:\n- {name: a, owner: &p os}\n- {name: b, owner: *p}\n", ALONE),
        ("machines:\n- ? name\n  : a\n  ? address\n  : b\n", ALONE),
    ],
)
def test_what_can_not_be_changed_alone_is_not_changed(write: Write, text: str, fault: str) -> None:
    source = write({"fleet.yaml": text})
    plan = carry_out(source, ["a"], PatchOwner.MANUAL)
    assert fault in str(plan.refused["a"])
    assert source.read_text() == text


@pytest.mark.parametrize("text", ["machines: [{name: >-\n    a\n  , owner: os}]\n", "machines:\n- name: >-\n    a\n"])
def test_odd_ways_to_write_a_name_are_understood_or_left(write: Write, text: str) -> None:
    source = write({"fleet.yaml": text})
    try:
        carry_out(source, ["a"], PatchOwner.MANUAL)
    except InvalidInventory:
        assert source.read_text() == text


def test_json_gets_quotes(write: Write) -> None:
    text = '{"machines": [\n  {"name": "a", "address": "192.0.2.1"},\n  {"name": "b", "owner": "os"}]}\n'
    source = write({"fleet.json": text})
    carry_out(source, ["a", "b"], PatchOwner.MANAGED)
    assert source.read_text() == text.replace('"a",', '"a", "owner": "managed",').replace('"os"', '"managed"')


def test_a_column_of_csv_is_set_or_added(write: Write) -> None:
    text = '\ufeffname;address\r\n# left out;x\r\n"a";"192.0.2.1"\r\n\r\nweb-[1:2];\r\n'
    source = write({"fleet.csv": text})
    carry_out(source, ["a"], PatchOwner.OS)
    added = text.replace("address\r", "address;owner\r").replace('1"\r', '1";os\r').replace("];\r", "];;\r")
    assert source.read_bytes().decode() == added
    carry_out(source, ["a", "web-1", "web-2"], PatchOwner.MANUAL)
    assert source.read_bytes().decode() == added.replace(";os\r", ";manual\r").replace("];;\r", "];;manual\r")


def test_a_host_of_ansible_gets_a_file_of_its_own(write: Write) -> None:
    files = {
        "hosts": "[web]\na\nb fleetpatch_owner=manual\nc\n[web:vars]\nfleetpatch_owner=managed\n",
        "host_vars/a.yml": "# mine\nhttp_port: 8080   # kept\nsecret: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\n",
        "host_vars/c/main.yml": "x: 1\n",
    }
    source = write(files)
    carry_out(source, ["a", "b", "c"], PatchOwner.OS)
    folder = source.parent / "host_vars"
    assert (folder / "a.yml").read_text() == f"{files['host_vars/a.yml']}fleetpatch_owner: os\n"
    assert (folder / "b.yml").read_text().endswith("\nfleetpatch_owner: os\n")
    assert (folder / "c" / "main.yml").read_text() == "x: 1\n"
    carry_out(source, ["c", "b"], PatchOwner.FLEETPATCH)
    assert "fleetpatch_owner: fleetpatch\n" in (folder / "c" / "fleetpatch.yml").read_text()


def test_a_vaulted_file_of_ansible_is_left(write: Write) -> None:
    vaulted = "$ANSIBLE_VAULT;1.1;AES256\n6162\n"
    source = write({"hosts": "a fleetpatch_vaulted_files=ignore\n", "host_vars/a.yml": vaulted})
    plan = carry_out(source, ["a"], PatchOwner.OS)
    assert "vaulted as a whole" in str(plan.refused["a"])
    assert (source.parent / "host_vars" / "a.yml").read_text() == vaulted


def test_machines_of_several_files_are_changed_in_each(write: Write) -> None:
    source = write({"fleet-1.yaml": "machines: [{name: a}]\n", "fleet-2.csv": "name,owner\nb,os\n"})
    plan = carry_out(source, ["a", "b"], PatchOwner.MANUAL)
    assert [edit.path.name for edit in plan.edits] == ["fleet-1.yaml", "fleet-2.csv"]


def test_a_machine_that_was_renamed_meanwhile_changes_nothing(write: Write) -> None:
    source = write({"fleet.yaml": "machines: [{name: a}]\n"})
    with pytest.raises(InventoryError, match="not in the inventory: gone") as caught:
        plan_owner_change(source, ["a", "gone"], PatchOwner.OS)
    assert "renamed or removed" in caught.value.hint


COMMENTS = st.sampled_from(["", "  # 😀 note", " # owner: os"])
WORDS = st.sampled_from(["fleetpatch", "managed", "os", "manual", '"os"', "'manual'", ""])


@st.composite
def fleets(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A fleet.yaml as people write it: block and flow, in any order, with comments anywhere."""
    names = [f"m-{number}" for number in range(draw(st.integers(1, 6)))]
    lines = [
        draw(st.sampled_from(["# größe\n", "", "defaults:\n  owner: os\n", "defaults: {owner: manual, zone: UTC}\n"]))
    ]
    lines.append(f"machines:{draw(COMMENTS)}\n")
    indent = draw(st.sampled_from(["", "  ", "    "]))
    for name in names:
        keys = [f"name: {name}", f"address: 192.0.2.{len(lines)}"]
        if draw(st.booleans()):
            keys.append(f"owner: {draw(WORDS)}".rstrip())
        keys = draw(st.permutations(keys))
        if draw(st.booleans()):
            flow = ", ".join(key if key != "owner:" else "owner: os" for key in keys)
            lines.append(f"{indent}- {{{flow}}}{draw(COMMENTS)}\n")
        else:
            lead = [f"{indent}- ", *[f"{indent}  "] * (len(keys) - 1)]
            lines += [f"{start}{key}{draw(COMMENTS)}\n" for start, key in zip(lead, keys, strict=True)]
            lines.append(draw(st.sampled_from(["", "\n", f"{indent}  # of {name}\n"])))
    text = "".join(lines)
    return (text.replace("\n", "\r\n") if draw(st.booleans()) else text), names


@given(fleets(), st.sampled_from(PatchOwner), st.data())
def test_any_fleet_file_changes_by_nothing_but_the_owners(
    fleet: tuple[str, list[str]], owner: PatchOwner, data: st.DataObject
) -> None:
    text, names = fleet
    chosen = data.draw(st.lists(st.sampled_from(range(len(names))), min_size=1, unique=True))
    changed = set_yaml_keys(Path("fleet.yaml"), text, "owner", {("machines", index): owner.value for index in chosen})
    assert (
        set_yaml_keys(Path("fleet.yaml"), changed, "owner", {("machines", index): owner.value for index in chosen})
        == changed
    )
    comments = [part for part in text.splitlines() if "#" in part]
    assert [part.partition("#")[2] for part in changed.splitlines() if "#" in part] == [
        part.partition("#")[2] for part in comments
    ]
    assert len(changed.splitlines()) - len(text.splitlines()) <= len(chosen)
    assert changed.count("\r\n") == (changed.count("\n") if "\r\n" in text else 0)


CELLS = st.sampled_from(["", "x", '"x y"', '"a, b;"', '"two\nlines"', '"\r\n"', '"say ""hi"""', " x ", 'in"ch'])


@given(st.data())
def test_any_csv_changes_by_nothing_but_the_owners(data: st.DataObject) -> None:
    delimiter, line_break = data.draw(st.sampled_from(",;\t")), data.draw(st.sampled_from(["\n", "\r\n"]))
    has_column = data.draw(st.booleans())
    rows = [["name", *(["owner"] if has_column else []), "note"]]
    numbers = range(data.draw(st.integers(1, 5)))
    rows += [[f"m-{number}", *(["os"] if has_column else []), data.draw(CELLS)] for number in numbers]
    lines = [delimiter.join(row) for row in rows]
    for place in range(data.draw(st.integers(0, 2))):
        lines.insert(1 + place, data.draw(st.sampled_from(["", f"# x{delimiter}y", f"#{delimiter}"])))
    text = line_break.join(lines) + data.draw(st.sampled_from(["", line_break]))

    def read(csv_text: str) -> dict[int, dict[str, str]]:
        reader = csv.reader(io.StringIO(csv_text, newline=""), delimiter=delimiter, strict=True)
        header, line, read_rows = next(reader), reader.line_num + 1, {}
        for cells in reader:
            if cells and not cells[0].startswith("#"):
                read_rows[line] = dict(zip(header, cells, strict=True))
            line = reader.line_num + 1
        return read_rows

    before = read(text)
    chosen = data.draw(st.sets(st.sampled_from(sorted(before)), min_size=1))
    changed = set_csv_cells(text, "owner", dict.fromkeys(chosen, "manual"))
    assert read(changed) == {
        line: {**row, "owner": "manual" if line in chosen else row.get("owner", "")} for line, row in before.items()
    }


def test_a_text_that_is_not_valid_is_refused() -> None:
    with pytest.raises(CannotEdit, match="it is not valid"):
        set_yaml_keys(Path("fleet.yaml"), "machines: [", "owner", {("machines", 0): "os"})
