"""Who may write where SYSTEM runs scripts from: folders are made safe, and checked before each use."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.domain.errors import ScriptFailed
from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Job, Script, ScriptRecord
from tasks.machines.transport.script_library import load_windows_script
from tests.contract.windows.warm_machine import CLOCK, WarmMachine
from tests.contract.windows.windows_scripts import load_test_script
from tests.lab.windows.scenario import Scenario
from tests.lab.windows.state import change_state

OURS = "(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
TRUSTED_INSTALLER = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
DESCRIPTORS = {
    f"O:BAG:SYD:PAI{OURS}": "",
    f"O:SYG:SYD:P{OURS}": "",
    f"O:S-1-5-18G:SYD:PAI{OURS}S:AI(AU;SAFA;FA;;;WD)": "",
    f"O:BAD:AI{OURS}(A;OICIIOID;GA;;;CO)(A;OICIID;0x1200a9;;;BU)(A;ID;FA;;;{TRUSTED_INSTALLER})": "",
    f"O:BAG:SYD:PAI{OURS}(D;;FA;;;WD)": "",
    f"O:BAG:SYD:PAI{OURS}(A;;FRFX;;;BU)": "",
    f"O:BAG:SYD:PAI{OURS}(A;;CCSWWPLORC;;;BU)": "",
    f"O:BUG:SYD:PAI{OURS}": "belongs to another user",
    f"O:S-1-5-21-1-2-3-1001G:SYD:PAI{OURS}": "belongs to another user",
    f"G:SYD:PAI{OURS}": "its owner is unknown",
    "": "its owner is unknown",
    "O:BAG:SY": "it has no list of who may write",
    "O:BAG:SYD:NO_ACCESS_CONTROL": "it has no list of who may write",
    "O:BAG:SYD:P": "nobody may read it",
    f"O:BAG:SYD:PAI{OURS}(A;OICI;FA;;;WD)": "others may write into it (WD)",
    f"O:BAG:SYD:PAI{OURS}(A;OICI;0x1301bf;;;AU)": "others may write into it (AU)",
    f"O:BAG:SYD:PAI{OURS}(A;;0x2;;;BU)": "others may write into it (BU)",
    f"O:BAG:SYD:PAI{OURS}(A;;0x10000000;;;BU)": "others may write into it (BU)",
    f"O:BAG:SYD:PAI{OURS}(A;;0x40000;;;S-1-5-21-1-2-3-500)": "others may write into it (S-1-5-21-1-2-3-500)",
    f"O:BAG:SYD:PAI{OURS}(A;OICIIO;GW;;;BU)": "others may write into it (BU)",
    f"O:BAG:SYD:PAI{OURS}(A;;FRLC;;;BU)": "others may write into it (BU)",
    f"O:BAG:SYD:PAI(XA;;FR;;;BU;(x)){OURS}": "it has no list of who may write",
    f"O:BAG:SYD:PAI(OA;;FR;;;BU){OURS}": "it has an entry of an unknown kind (OA;;FR;;;BU)",
}
JUDGE = "foreach ($sddl in @(Get-FpListParam sddl)) { Write-FpRecord judged @{ why = (Test-FpSddl -Sddl $sddl) } }"


@pytest.fixture
def place(warm: WarmMachine) -> Iterator[Path]:
    yield warm.make_place()
    with change_state(warm.windows.folder) as state:
        state["acls"].clear()


def take_lock(warm: WarmMachine, place: Path) -> ScriptRecord:
    script = Script("machine_lock", {"run": "run", "attempt": "1", "by": "anne", "until": "9999999999"})
    return warm.open_host(place).run_script(script, deadline=Deadline.after(CLOCK, 60)).records[-1]


def refused(warm: WarmMachine, place: Path) -> str:
    """Return why a lock was refused; nothing was written then."""
    before = sorted(place.rglob("*")) if place.exists() else []
    answer = take_lock(warm, place)
    assert answer["kind"] == "refused", answer
    assert (sorted(place.rglob("*")) if place.exists() else []) == before
    return str(answer["why"])


def stored_acl(warm: WarmMachine, path: Path) -> dict[str, object]:
    return dict(json.loads((warm.windows.folder / "state.json").read_text())["acls"][str(path)])


def test_every_descriptor_is_judged(warm: WarmMachine) -> None:
    def load(name: str, package: str = "tasks") -> str:
        return f"# Requires: job_files, folders\n{JUDGE}" if name == "judge" else load_windows_script(name, package)

    script = Script("judge", {"sddl": tuple(DESCRIPTORS)})
    answer = warm.open_host(script_loader=load).run_script(script, deadline=Deadline.after(CLOCK, 60))
    assert [record["why"] for record in answer.find_records("judged")] == list(DESCRIPTORS.values())


def test_a_folder_is_made_for_administrators_alone(warm: WarmMachine, place: Path) -> None:
    assert take_lock(warm, place)["kind"] == "locked"
    for path in (place, place / "jobs"):
        acl = stored_acl(warm, path)
        assert (acl["owner"], acl["protected"]) == ("S-1-5-32-544", True)
        grants = acl["grants"]
        assert isinstance(grants, list)
        assert {(g["sid"], g["rights"], g["flags"]) for g in grants} == {
            ("S-1-5-18", "F", "OICI"),
            ("S-1-5-32-544", "F", "OICI"),
        }


def test_a_folder_whose_making_was_interrupted_is_finished(warm: WarmMachine, place: Path) -> None:
    place.mkdir()
    assert take_lock(warm, place)["kind"] == "locked"
    assert stored_acl(warm, place)["protected"] is True


@pytest.mark.parametrize("part", ["", "jobs"])
def test_a_folder_of_somebody_else_is_refused(warm: WarmMachine, place: Path, part: str) -> None:
    (place / "jobs").mkdir(parents=True)
    for path in (place, place / "jobs"):
        warm.grant(path, "")
    with change_state(warm.windows.folder) as state:
        state["acls"][str(place / part)]["owner"] = "S-1-5-21-1-2-3-1001"
    assert refused(warm, place) == f"{place / part} belongs to another user"


@pytest.mark.parametrize("part", ["", "jobs"])
def test_a_folder_that_others_may_write_into_is_refused(warm: WarmMachine, place: Path, part: str) -> None:
    (place / "jobs").mkdir(parents=True)
    for path in (place, place / "jobs"):
        warm.grant(path, "")
    warm.grant(place / part, "*S-1-5-32-545:(OI)(CI)M")
    assert refused(warm, place) == f"others may write into {place / part} (BU)"


@pytest.mark.parametrize("part", ["", "jobs"])
def test_a_link_is_refused(warm: WarmMachine, place: Path, part: str, tmp_path: Path) -> None:
    (place / part).parent.mkdir(parents=True, exist_ok=True)
    (place / part).symlink_to(tmp_path)
    if part:
        warm.grant(place, "")
    assert refused(warm, place) == f"{place / part} is a link"
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_its_place_is_refused(warm: WarmMachine, place: Path) -> None:
    place.write_text("a file where a folder is due")
    answer = take_lock(warm, place)
    assert (answer["kind"], answer["about"]) == ("refused", "room")
    assert "cannot write" in str(answer["why"])


def test_no_job_begins_in_a_folder_that_others_may_write_into(warm: WarmMachine, place: Path) -> None:
    take_lock(warm, place)
    warm.grant(place / "jobs", "*S-1-1-0:(OI)(CI)M")
    host = warm.open_host(place, load_test_script)
    with pytest.raises(ScriptFailed, match="others may write"):
        host.start_job(Job("one", Script("quick")), deadline=Deadline.after(CLOCK, 60))
    assert not (place / "jobs/one").exists()


def test_where_the_rights_can_not_be_set_nothing_is_written() -> None:
    with WarmMachine.opened(Scenario(icacls_fails=True)) as warm:
        place = warm.make_place()
        answer = take_lock(warm, place)
        assert (answer["kind"], answer["about"]) == ("refused", "room")
        assert "icacls.exe failed" in str(answer["why"])
        assert not (place / "machine-lock").exists()
