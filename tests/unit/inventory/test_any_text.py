"""Whatever stands in a file: it becomes an inventory, or a fault with a file and a remedy. Nothing else."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from inventory.errors import InvalidInventory
from inventory.loader import load_inventory

YAML_PARTS = [
    "machines:",
    "defaults:",
    "groups:",
    "host_keys:",
    "all:",
    "hosts:",
    "vars:",
    "children:",
    "- name: a",
    "- a",
    "- b",
    "a:",
    "b:",
    "name: web-[1:3]",
    "port: 22",
    "jump: a",
    "tags: {a: b}",
    "limits:",
    "probes: [",
    "]",
    "{",
    "}",
    "&x",
    "*x",
    "!vault |",
    "<<: *x",
    "? ",
    ": ",
    "- ",
    "~",
    "'",
    '"',
    "ansible_host: x",
    "ansible_password: p",
    "fleetpatch_tags: a",
    "---",
    "...",
    "# c",
    "\x00",
    "é",
    "\t",
]
INI_PARTS = [
    "[web]",
    "[web:vars]",
    "[web:children]",
    "[all:vars]",
    "web",
    "a",
    "b",
    "a-[1:3]",
    "[::1]:22",
    "[1:2]x",
    "x=y",
    "=",
    "'",
    "ansible_host=h",
    "ansible_port=2",
    "ansible_ssh_common_args='-J a'",
    "ansible_ssh_common_args=-J",
    "fleetpatch_tags={",
    "fleetpatch_tags=a=b",
    "ansible_user={{",
    "# c",
    "; c",
    "\\",
    "[",
    "]",
    ":22",
    "ansible_password=p",
    "\x00",
    "é",
]
CSV_PARTS = [
    "name",
    "address",
    "tag:a",
    "tag:",
    "port",
    "jump",
    "a",
    "b",
    "22",
    ",",
    ",",
    ";",
    '"',
    "#",
    "\x00",
    "\r",
    "[1:3]",
]
SPACES = ["\n", "\n", "\n  ", "\n    ", " ", ""]


def texts(parts: list[str]) -> st.SearchStrategy[str]:
    pairs = st.tuples(st.sampled_from(parts), st.sampled_from(SPACES))
    return st.lists(pairs, max_size=25).map(lambda found: "".join(part + space for part, space in found))


def outcome(name: str, text: str) -> list[str]:
    """Load a text; return the remedies of its faults, or the names of its machines."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text, encoding="utf-8", newline="")
        try:
            return [machine.name for machine in load_inventory(path).machines]
        except InvalidInventory as error:
            return [problem.hint for problem in error.problems if problem.file == path]


@given(texts(YAML_PARTS) | st.text(max_size=50))
def test_yaml(text: str) -> None:
    assert all(outcome("x.yaml", text))
    assert outcome("x.yaml", text) != []


@given(texts(INI_PARTS) | st.text(max_size=50))
def test_ini(text: str) -> None:
    assert all(outcome("x.ini", text))
    assert outcome("x.ini", text) != []


@given(texts(CSV_PARTS) | st.text(max_size=50))
def test_csv(text: str) -> None:
    assert all(outcome("x.csv", text))
    assert outcome("x.csv", text) != []
