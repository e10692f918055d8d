"""Whatever stands in an inventory: machines, or faults with file, what and remedy, in little time and memory."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from inventory.errors import InventoryError
from inventory.loader import find_inventory, load_inventory
from tests.support.fuzzing import ODD, bounded, damaged, fuzzed, judge, paths, put

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data" / "inventories"
FLEET = (ROOT / "inventory" / "fleet.example.yaml").read_text(encoding="utf-8")
SETS = """\
defaults: {wake: {broadcast: 192.0.2.255, minutes: 3}}
machines:
  - {name: db-1, availability_zone: a, tags: {cluster: db, role: primary, rack: a}, wake: {mac: "52:54:00:ab:cd:ef"}}
  - {name: db-2, tags: {cluster: db, role: replica}, wake: {command: power on, off_command: power off, off_again: no}}
  - {name: "web-[1:4]", wake: }
sets:
  - name: db
    scope: tag.cluster=db
    max_unavailable: 1
    update_domain: rack
    role: {tag: role, timeout_seconds: 5}
    order: [replica, primary]
    quorum: 1
    drain: {kind: controller-command, target: drain, timeout_minutes: 2, repeatable: false}
    undrain: {kind: http, target: "https://lb/undrain"}
    healthy: [{name: up, kind: tcp, target: "5432"}]
    healthy_minutes: 2.5
  - {name: web, scope: name=web-*, max_unavailable: 25%, role: {command: role}, order: b a}
"""
CSV = "name,address,port,user,groups,tag:ring,max_reboots\nweb-[1:3],,22,patch,web;db,broad,2\nb,192.0.2.1,,,,,\n"
INI = tuple(file.read_text() for file in [DATA / "ansible_ini" / "hosts.ini", DATA / "ansible_dir" / "production"])
YAML = tuple(file.read_text() for file in [DATA / "ansible_yaml" / "hosts.yml", DATA / "ansible_dir" / "02-owners.yml"])
VARIABLES = (
    "ansible_host=",
    "ansible_port=",
    "ansible_group_priority=",
    "ansible_ssh_common_args=",
    "ansible_connection=",
    "fleetpatch_tags=",
    "fleetpatch_limits=",
    "fleetpatch_jump=",
    "http_port=",
    "[all:vars]\n",
    "[a:children]\n",
    "[0:99999]",
    "[a:z][a:z][a:z]",
    "-o ProxyJump=",
    "!vault",
    "<<: *",
    "{{ inventory_hostname }}",
    "{{ lookup('env', 'X') }}",
)


def look(files: dict[str, bytes], inventory: str = "") -> None:
    """Load a tree of files; whatever is refused must be said as it should."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "stage"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        try:
            with bounded():
                load_inventory(folder / inventory)
        except InventoryError as error:
            judge(error, "stage")


def as_bytes(text: str, encoding: str) -> bytes:
    return text.encode(encoding, "surrogatepass")


encodings = st.sampled_from(["utf-8"] * 12 + ["utf-8-sig", "utf-16", "utf-32"])


def one_file(name: str, texts: tuple[str, ...]) -> Callable[[], None]:
    @fuzzed(0.3)
    @given(damaged(texts, VARIABLES), encodings)
    def check(text: str, encoding: str) -> None:
        look({name: as_bytes(text, encoding)}, name)

    check.hypothesis.inner_test.__name__ = name.replace(".", "_")  # type: ignore[attr-defined]  # examples are kept by it
    return check


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("x.yaml", (FLEET, SETS)),
        ("x.csv", (CSV,)),
        ("x.ini", INI),
        ("hosts.yml", YAML),
        ("x.json", YAML),
        ("hosts", INI + YAML),
    ],
    ids=["fleet", "csv", "ini", "ansible-yaml", "json", "bare"],
)
def test_a_damaged_file(name: str, texts: tuple[str, ...]) -> None:
    one_file(name, texts)()


@fuzzed(0.3)
@given(st.data())
def test_a_fleet_with_another_value_somewhere(data: st.DataObject) -> None:
    tree: Any = yaml.safe_load(data.draw(st.sampled_from([FLEET, SETS])))
    for _ in range(data.draw(st.integers(1, 3))):
        tree = put(tree, data.draw(st.sampled_from(paths(tree))), data.draw(ODD))
    look({"x.yaml": as_bytes(yaml.safe_dump(tree, allow_unicode=True), "utf-8")}, "x.yaml")


@fuzzed(0.3)
@given(st.data())
def test_ansible_yaml_with_another_value_somewhere(data: st.DataObject) -> None:
    tree: Any = yaml.safe_load(data.draw(st.sampled_from(YAML)))
    for _ in range(data.draw(st.integers(1, 3))):
        tree = put(tree, data.draw(st.sampled_from(paths(tree))), data.draw(ODD))
    look({"x.yml": as_bytes(yaml.safe_dump(tree, allow_unicode=True), "utf-8")}, "x.yml")


@fuzzed(0.3)
@given(st.data())
def test_a_damaged_directory(data: st.DataObject) -> None:
    folder = DATA / data.draw(st.sampled_from(["ansible_dir", "ansible_ini", "split"]))
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    victim = data.draw(st.sampled_from(sorted(files)))
    text = data.draw(damaged((files[victim].decode(),), VARIABLES))
    look({**files, victim: as_bytes(text, data.draw(encodings))})


DEEP_CHILDREN = "".join(f"[g{number}:children]\ng{number + 1}\n" for number in range(3000)) + "[g3000]\na\n"
CROSSWISE = "".join(
    f"[l{level}n{one}:children]\n" + "".join(f"l{level + 1}n{other}\n" for other in range(40))
    for level in range(90)
    for one in range(40)
) + "".join(f"[l90n{one}]\nh{one}\n" for one in range(40))
NINES = "9" * 5000
BAD: dict[str, tuple[str, str]] = {
    "superscript priority": ("x.ini", "[a]\nh\n[a:vars]\nansible_group_priority=²\n"),
    "priority with two signs": ("x.ini", "[a]\nh\n[a:vars]\nansible_group_priority=--5\n"),
    "priority of a truth": ("x.yml", "a: {hosts: {h: }, vars: {ansible_group_priority: yes}}\n"),
    "priority of a list": ("x.yml", "a: {hosts: {h: }, vars: {ansible_group_priority: [1]}}\n"),
    "priority of many digits": ("x.ini", f"[a]\nh\n[a:vars]\nansible_group_priority={NINES}\n"),
    "deep children": ("x.ini", DEEP_CHILDREN),
    "crosswise children": ("x.ini", CROSSWISE),
    "many circles": ("x.ini", "".join(f"[a{n}:children]\nb{n}\n[b{n}:children]\na{n}\n" for n in range(20_000))),
    "quorum of many digits": ("x.yaml", f"machines: [a]\nsets: [{{name: s, scope: '*', quorum: {NINES}}}]\n"),
    "share of many digits": ("x.yaml", f"machines: [a]\nsets: [{{name: s, scope: '*', max_unavailable: {NINES}}}]\n"),
    "port of many digits": ("x.ini", f"h ansible_port={NINES}\n"),
    "port of many digits in hexadecimal": ("x.ini", f"h ansible_port=0x{'f' * 5000}\n"),
    "port of many digits behind a name": ("x.ini", f"h:{NINES}\n"),
    "port of many digits in YAML": ("x.yml", f"all: {{hosts: {{h: {{ansible_port: {NINES}}}}}}}\n"),
    "port of many digits in base 60": ("x.yml", f"all: {{hosts: {{h: {{ansible_user: {NINES}:10}}}}}}\n"),
    "name of many digits": ("x.yml", f"all: {{hosts: {{{NINES}: }}}}\n"),
    "range of many digits": ("x.ini", f"h[0:{NINES}]\n"),
    "range of huge steps": ("x.ini", f"h[0:9:{NINES}]\n"),
    "many ranges": ("x.ini", "h[0:9999]\n" * 1000),
    "many ranges in a fleet": ("x.yaml", "machines:\n" + "".join(f"- a{n}-[0:9999]\n" for n in range(30))),
    "jump of many digits": ("x.ini", f"h ansible_ssh_common_args='-J b:{NINES}'\n"),
    "limit of many digits": ("x.csv", f"name,max_reboots\nh,{NINES}\n"),
    "port of many digits in a fleet": ("x.yaml", f"machines: [{{name: h, port: {NINES}}}]\n"),
    "check of many digits": (
        "x.yaml",
        f"machines: [{{name: h, probes: [{{name: p, kind: tcp, target: 'h:{NINES}'}}]}}]\n",
    ),
    "brackets of a variable of ours": ("x.ini", f"h fleetpatch_limits={'{' * 3000}\n"),
    "signs of a variable of ours": ("x.ini", f"h ansible_user={'-' * 9000}1\n"),
    "a key that no map has": ("x.ini", "h fleetpatch_tags={[]:1}\n"),
    "a long line": ("x.ini", "h " + "x" * 2_000_000 + "\n"),
    "a long line of quotes": ("x.ini", "h " + "'x' " * 500_000 + "\n"),
    "lone surrogates in YAML": ("x.yml", 'all: {hosts: {h: {ansible_user: "\\ud800"}}}\n'),
    "lone surrogates in a fleet": ("x.yaml", 'machines: [{name: h, environment: "\\ud800"}]\n'),
    "a path with a lone surrogate": ("x.yaml", 'machines: [h]\nhost_keys: {known_hosts: "\\ud800"}\n'),
    "a path of many letters": ("x.yaml", f"machines: [h]\nhost_keys: {{known_hosts: ~{'x' * 5000}/k}}\n"),
    "aliases that multiply": (
        "x.yml",
        "a: &a {hosts: {h: }}\n"
        + "".join(f"{n}: &{n} [{', '.join([f'*{chr(ord(n) - 1)}'] * 9)}]\n" for n in "bcdefghi"),
    ),
    "merges that multiply": (
        "x.yaml",
        "a: &a {x: 1}\n"
        + "".join(f"{n}: &{n} {{<<: [{', '.join([f'*{chr(ord(n) - 1)}'] * 9)}]}}\n" for n in "bcdefghi"),
    ),
    "NUL": ("x.ini", "h\0 ansible_user=a\0b\n"),
    "NUL in CSV": ("x.csv", "name\nh\0\n"),
}
HARMLESS: dict[str, tuple[str, str]] = {
    "brackets of somebody else": ("x.ini", f"h x={'(' * 5000}\n[all:vars]\ny={'[' * 5000}\nz={'-' * 50_000}1\n"),
    "digits of somebody else": ("x.ini", f"h x={NINES} y=0x{NINES}\n[all:vars]\nz={NINES}\n"),
    "digits of somebody else in YAML": ("x.yml", f"all: {{hosts: {{h: {{x: {NINES}, y: 9999-99-99}}}}}}\n"),
    "a byte order mark": ("x.ini", "\ufeffh\n"),
    "a quoted number": ("x.yml", "all: {hosts: {'12': {ansible_host: h, ansible_port: '2222'}}}\n"),
}


HUGE = {"crosswise children", "many circles"}  # they take two seconds each


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case in HUGE)) for case in BAD])
def test_bad_input_is_told(tmp_path: Path, case: str) -> None:
    name, text = BAD[case]
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InventoryError) as caught, bounded():
        load_inventory(tmp_path / name)
    judge(caught.value, str(tmp_path))


@pytest.mark.parametrize("case", HARMLESS)
def test_what_only_looks_bad_is_read(tmp_path: Path, case: str) -> None:
    name, text = HARMLESS[case]
    (tmp_path / name).write_text(text, encoding="utf-8")
    with bounded():
        assert len(load_inventory(tmp_path / name).machines) == 1


@pytest.mark.parametrize("path", ["x" * 5000, "/" + "x/" * 2500, "a\0b", "\udcff", "~" + "x" * 5000, "~/" + "y" * 5000])
def test_a_path_that_no_file_has(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for read in (load_inventory, find_inventory):
        with pytest.raises(InventoryError) as caught:
            read(Path(path))
        assert caught.value.message
        assert getattr(caught.value, "problems", (caught.value,))[0].hint
        assert len(str(caught.value)) < 1000
    if "\0" not in path:
        monkeypatch.setenv("FLEETPATCH_INVENTORY", path)
        with pytest.raises(InventoryError):
            find_inventory()


@pytest.mark.parametrize("path", ["fleet.yaml", "hosts", ".", ""])
def test_a_working_directory_that_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("FLEETPATCH_INVENTORY", raising=False)
    (tmp_path / "gone").rmdir()
    for read in (lambda: load_inventory(Path(path)), find_inventory):
        with pytest.raises(InventoryError, match="current folder does not exist") as caught:
            read()
        judge(caught.value)
    (tmp_path / "fleet.yaml").write_text("machines: [{name: a, credential: key:k}]\nhost_keys: {known_hosts: k}\n")
    assert load_inventory(tmp_path / "fleet.yaml").machines[0].credential == f"key:{tmp_path}/k"
    os.chdir(tmp_path)
