"""Plans a change of who patches machines, as changes of the inventory's files. Reads the files, and writes none.

In fleetpatch's own files the key ``owner`` of each machine is set, or the column. It is the strongest layer, so
defaults and groups stay. An Ansible inventory gets ``fleetpatch_owner`` in the file of the host in ``host_vars``, which
is stronger than the inventory's own files.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Final

from inventory.builder import InventoryFragment, MachineDraft, build_inventory
from inventory.data_class import dataclass
from inventory.editing.csv_edits import set_csv_cells
from inventory.editing.text_edits import CannotEdit, FileEdit
from inventory.editing.yaml_edits import set_yaml_keys
from inventory.errors import InventoryError
from inventory.files.located_yaml import parse_yaml
from inventory.files.paths import expand_home
from inventory.files.problems import ProblemCollector
from inventory.files.text_files import read_text_file
from inventory.formats.ansible.parsers import find_variable_file, is_vaulted
from inventory.formats.fleet_files import parse_fleet_csv, parse_fleet_yaml
from inventory.loader import read_fragments
from inventory.machine import Inventory, PatchOwner
from inventory.name_lists import join_first_names

KEY: Final = "owner"
ANSIBLE_VARIABLE: Final = "fleetpatch_owner"
_NEW_FILE_COMMENT: Final = "# Who patches this machine: `owner` in fleetpatch's reference of inventories."
_SPLIT_HINT: Final = "Select all of them, or give these machines an entry of their own in the file."
_OWN_HANDS: Final = "Write it into the file yourself."


@dataclass(frozen=True, slots=True)
class OwnerPlan:
    """What a change of the owner does to the files."""

    inventory: Inventory  # as the files are before the change
    edits: tuple[FileEdit, ...] = ()  # the changes of files, in the order of their names
    unchanged: tuple[str, ...] = ()  # machines that have this owner already
    refused: Mapping[str, InventoryError] = field(default_factory=dict)  # why a machine can't be changed, by its name


def plan_owner_change(source: Path, names: Iterable[str], owner: PatchOwner) -> OwnerPlan:
    """Return the changes of an inventory's files that give machines an owner.

    Raises:
        InvalidInventory: the inventory has problems, so nothing in it is changed.
        InventoryError: a name is of no machine.
    """
    source = expand_home(source)
    problems = ProblemCollector()
    fragments = read_fragments(source, problems)
    inventory = build_inventory(fragments, source, problems)
    present = {machine.name: machine.owner for machine in inventory.machines}
    chosen = list(dict.fromkeys(names))
    unknown_names = [name for name in chosen if name not in present]
    if unknown_names:
        hint = "It may have been renamed or removed meanwhile: look at the list again."
        raise InventoryError(f"not in the inventory: {join_first_names(unknown_names)}", hint=hint)
    wanted = frozenset(name for name in chosen if present[name] is not owner)
    edits: list[FileEdit] = []
    refused: dict[str, InventoryError] = {}
    for machines, build_edit in _list_file_changes(fragments, wanted, owner):
        try:
            edits.append(build_edit())
        except InventoryError as error:
            refused |= dict.fromkeys(machines, error)
    refused |= _find_torn_entries(fragments, wanted)
    unchanged = tuple(name for name in chosen if name not in wanted)
    return OwnerPlan(inventory, tuple(sorted(edits, key=lambda edit: edit.path)), unchanged, refused)


def _list_file_changes(
    fragments: Sequence[InventoryFragment], wanted: frozenset[str], owner: PatchOwner
) -> Iterable[tuple[tuple[str, ...], Callable[[], FileEdit]]]:
    """Yield the machines of each file that is to be changed, and what builds its change."""
    for fragment in fragments:
        if fragment.ansible_folder is not None:
            for draft in fragment.drafts:
                name, folder = draft.machine.name, fragment.ansible_folder
                if name in wanted:
                    yield (name,), lambda name=name, folder=folder: _edit_host_variables(folder, name, owner)  # type: ignore[misc]
            continue
        torn = _find_torn_entries([fragment], wanted)
        names = tuple(
            draft.machine.name
            for draft in fragment.drafts
            if draft.machine.name in wanted and draft.machine.name not in torn
        )
        if names:
            path = fragment.drafts[0].location.file
            yield names, lambda path=path, names=names: edit_fleet_file(path, names, owner)  # type: ignore[misc]


def _find_torn_entries(fragments: Sequence[InventoryFragment], wanted: frozenset[str]) -> dict[str, InventoryError]:
    """Return an error for each machine whose entry also stands for machines that were not selected (``web-[1:9]``)."""
    errors: dict[str, InventoryError] = {}
    for fragment in fragments:
        if fragment.ansible_folder is not None:
            continue  # each host has a file of its own
        # The machines of each entry: those that a range in a name makes are of one.
        entries: dict[object, list[MachineDraft]] = {}
        for draft in fragment.drafts:
            entries.setdefault((draft.location.line, draft.source.base_path), []).append(draft)
        for drafts in entries.values():
            names = [draft.machine.name for draft in drafts]
            others = [name for name in names if name not in wanted]
            chosen = wanted & set(names)
            if not chosen or not others:
                continue
            place = drafts[0].location
            message = f"its entry also stands for {join_first_names(others)}"
            error = InventoryError(message, file=place.file, line=place.line, hint=_SPLIT_HINT)
            errors |= dict.fromkeys(chosen, error)
    return errors


def edit_fleet_file(path: Path, names: Sequence[str], owner: PatchOwner) -> FileEdit:
    """Return the change of a fleet.yaml, JSON or CSV that gives some of its machines an owner.

    Raises:
        InventoryError: the file can't be read, or not be changed without a change of something else.
    """
    before = _read(path)
    drafts = _parse(path, before).drafts
    chosen = [draft for draft in drafts if draft.machine.name in set(names)]
    if path.suffix == ".csv":
        after = set_csv_cells(before, KEY, {draft.location.line or 0: owner.value for draft in chosen})
    else:
        after = set_yaml_keys(path, before, KEY, {draft.source.base_path: owner.value for draft in chosen})
    expected = [
        replace(draft.machine, owner=owner) if draft.machine.name in set(names) else draft.machine for draft in drafts
    ]
    if [draft.machine for draft in _parse(path, after).drafts] != expected:
        raise CannotEdit("other machines of the file would change, too", file=path, hint=_OWN_HANDS)
    return FileEdit(path, before, after, tuple(names))


def _parse(path: Path, text: str) -> InventoryFragment:
    problems = ProblemCollector()
    if path.suffix == ".csv":
        fragment = parse_fleet_csv(path, text, problems)
    else:
        located = parse_yaml(path, text, problems)
        fragment = parse_fleet_yaml(located, problems) if located is not None else InventoryFragment()
    problems.raise_if_any()
    return fragment


def _read(path: Path) -> str:
    problems = ProblemCollector()
    text = read_text_file(path, problems, must_be_regular=True)
    problems.raise_if_any()
    assert text is not None  # noqa: S101 - for the type checker: without a text there is a problem
    return text


def _edit_host_variables(folder: Path, name: str, owner: PatchOwner) -> FileEdit:
    """Return the change of a host's file in ``host_vars``. It is made if there is none.

    Raises:
        InventoryError: the file can't be read or changed.
    """
    if "/" in name:
        raise CannotEdit(f"no file of host_vars can have the name {name}", file=folder, hint=_OWN_HANDS)
    problems = ProblemCollector()
    path = find_variable_file(folder / "host_vars", name, ANSIBLE_VARIABLE, problems)
    problems.raise_if_any()
    if path is None or not path.exists():
        new = path or folder / "host_vars" / f"{name}.yml"
        return FileEdit(new, None, f"{_NEW_FILE_COMMENT}\n{ANSIBLE_VARIABLE}: {owner}\n", (name,))
    before = _read(path)
    if is_vaulted(before):
        hint = f"Write {ANSIBLE_VARIABLE}: {owner} into it with ansible-vault edit."
        raise CannotEdit("this file is vaulted as a whole", file=path, hint=hint)
    after = set_yaml_keys(path, before, ANSIBLE_VARIABLE, {(): owner.value}, ansible=True)
    return FileEdit(path, before, after, (name,))
