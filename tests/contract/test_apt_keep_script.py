"""What apt_keep.sh keeps, and which of it apt_kept.sh finds again. apt-get is a stand-in, the packages are real."""

import subprocess
from pathlib import Path

import pytest

from tests.contract.test_apt_job_script import run

GIB = 1024**3
APT_GET = """#!/bin/sh
cd "$STAND_IN/../.."
echo "$*" >>"$STAND_IN/calls"
case "$*" in
  *--allow-downgrades*-s*) exit 0 ;;
  *' -s '*) for name in cached offered gone; do echo "Inst $name [1:1] (2 shop [all])"; done ;;
  *--print-uris*--reinstall* | *--reinstall*--print-uris*) [ -e "archives/offered_1%3a1_all.deb" ] ||
    echo "'http://shop/offered.deb' offered_1%3a1_all.deb $(wc -c <repository/offered_1%3a1_all.deb) SHA256:1" ;;
  *--reinstall*) cp repository/offered* archives/ ;;
esac
"""
DPKG_QUERY = """#!/bin/sh
for name; do :; done
case $1:$name in
  --control-path:*) echo "$STAND_IN/../../sums" ;;
  *:cached | *:offered | *:gone) echo 'all 1:1' ;;
esac
"""
APT_CONFIG = """#!/bin/sh
echo "archives='$STAND_IN/../../archives/'"
"""
TOOLS = {"dpkg-query": DPKG_QUERY, "apt-config": APT_CONFIG}
SPECS = ["cached=2", "offered=2", "gone=2"]


def make_package(folder: Path, name: str, sums: str) -> None:
    tree = folder / f"tree-{name}"
    (tree / "DEBIAN").mkdir(parents=True)
    fields = {"Package": name, "Version": "1:1", "Architecture": "all", "Maintainer": "a <a@b>", "Description": name}
    (tree / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
    (tree / "DEBIAN/md5sums").write_text(sums)
    words = ["dpkg-deb", "-Znone", "--nocheck", "--build", str(tree), str(folder / f"{name}_1%3a1_all.deb")]
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture(name="machine")
def _machine(tmp_path: Path) -> Path:
    for name in ("archives", "repository", "jobs"):
        (tmp_path / name).mkdir()
    (tmp_path / "sums").write_text("d41d8cd98f00b204e9800998ecf8427e  a\n")
    for folder, name in (("archives", "cached"), ("repository", "offered")):
        make_package(tmp_path / folder, name, (tmp_path / "sums").read_text())
    return tmp_path


def keep(machine: Path, run_id: str, **more: object) -> dict[str, object]:
    """Let the download of a run keep what it replaces; return its record."""
    place = machine / "jobs" / f"{run_id}-{len(list((machine / 'jobs').iterdir()))}"
    place.mkdir()
    limits = {"keep": run_id, "keep_bytes": str(GIB), "keep_reserve": "0", **more}
    events = run(place, APT_GET, 60, tools=TOOLS, work="stage", tx_0_packages=SPECS, **limits)
    (record,) = [event for event in events if event["kind"] == "kept"]
    assert [event["kind"] for event in events if event["kind"] == "transaction_ended"] == ["transaction_ended"]
    return {key: record[key] for key in ("kept", "total", "lost", "full", "late")}


def list_folders(machine: Path) -> dict[str, list[str]]:
    return {
        folder.name: sorted(path.name for path in folder.iterdir() if path.suffix == ".deb")
        for folder in sorted((machine / "kept").iterdir())
    }


def find_kept(machine: Path, *specs: str) -> list[str]:
    """Return what an undo's job gives apt-get in the place of these versions."""
    place = machine / "jobs" / f"undo-{len(list((machine / 'jobs').iterdir()))}"
    place.mkdir()
    run(place, APT_GET, 60, tools=TOOLS, downgrades="yes", tx_0_packages=list(specs))
    calls = (place / "calls").read_text().splitlines()
    installs = next(line for line in calls if " --no-remove install " in line)
    return [Path(word).name for word in installs.partition(" install ")[2].split()]


def test_a_run_keeps_once_what_it_replaces(machine: Path) -> None:
    files = ["cached_1%3a1_all.deb", "offered_1%3a1_all.deb"]
    kept = {"kept": 2, "total": 3, "lost": " gone=1:1", "full": "", "late": ""}
    assert keep(machine, "first") == kept
    before = {path: path.stat().st_ino for path in (machine / "kept/first").iterdir()}
    assert keep(machine, "first") == kept
    assert {path: path.stat().st_ino for path in (machine / "kept/first").iterdir()} == before
    assert (machine / "kept/first/index").read_text().count("\n") == 2
    assert (machine / "kept").stat().st_mode & 0o777 == 0o700
    assert (machine / "kept/first").stat().st_mode & 0o777 == 0o700

    keep(machine, "second")
    keep(machine, "third")

    assert list_folders(machine) == {"second": files, "third": files}


@pytest.mark.parametrize("limit", [{"keep_bytes": "9000"}, {"keep_reserve": str(2**60)}], ids=["size", "free room"])
def test_what_has_no_room_is_not_kept(machine: Path, limit: dict[str, str]) -> None:
    record = keep(machine, "first", **limit)
    assert record == {"kept": 0, "total": 3, "lost": " gone=1:1", "full": " cached=1:1 offered=1:1", "late": ""}
    assert list_folders(machine) == {}


def test_a_file_that_is_not_what_is_installed_is_not_kept(machine: Path) -> None:
    (machine / "sums").write_text("other\n")
    assert keep(machine, "first")["kept"] == 0


def test_an_undo_uses_only_whole_files_of_root_alone(machine: Path) -> None:
    keep(machine, "first")
    folder = machine / "kept/first"
    (folder / "gone_1%3a1_all.deb").write_text("of a job that was killed before it noted the file")
    specs = ["cached=1:1", "offered=1:1", "gone=1:1"]
    assert find_kept(machine, *specs) == ["cached_1%3a1_all.deb", "offered_1%3a1_all.deb", "gone=1:1"]
    with (folder / "cached_1%3a1_all.deb").open("ab") as file:
        file.write(b"x")
    assert find_kept(machine, *specs) == ["cached=1:1", "offered_1%3a1_all.deb", "gone=1:1"]
    events = max((machine / "jobs").glob("undo-*/events"), key=lambda path: int(path.parent.name[5:])).read_text()
    assert '{"kind":"kept_changed","update":"cached"}' in events.splitlines()
    folder.chmod(0o770)
    assert find_kept(machine, *specs) == specs


@pytest.mark.parametrize(
    ("question", "failure"),
    [
        ("' -s '", "what the installation replaces"),
        ("--reinstall*--print-uris", "where it gets offered=1:1 gone=1:1"),
    ],
)
def test_what_apt_does_not_tell_is_not_called_lost(machine: Path, question: str, failure: str) -> None:
    place = machine / "jobs/a"
    place.mkdir()
    fault = f'case "$*" in *{question}*) echo "E: no lists" >&2; exit 100 ;; esac\n'
    deaf = APT_GET.replace('case "$*" in\n', f'{fault}case "$*" in\n')
    limits = {"keep": "a", "keep_bytes": str(GIB), "keep_reserve": "0"}
    events = run(place, deaf, 60, tools=TOOLS, work="stage", tx_0_packages=SPECS, **limits)
    (record,) = [event for event in events if event["kind"] == "kept"]
    assert (record["failure"], record.get("lost", "")) == (f"apt did not tell {failure}: E: no lists", "")
