"""event_file.ps1: who may read and approve, and what somebody else has put there."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tasks.domain.protocols.clock import Deadline
from tasks.domain.protocols.transport import Script, ScriptRecord
from tests.contract.windows.warm_machine import CLOCK, WarmMachine
from tests.lab.windows.scenario import Scenario
from tests.lab.windows.state import change_state

FIRST, SECOND = "f020ba2e-3bc0-4c40-a10b-86575a9eabd5", "11111111-2222-3333-4444-555555555555"
DOCUMENT = '{"DocumentIncarnation": 5, "Events": [{"Description": "It\'s \\"odd\\" $(id) `id` ünï"}]}'
ADMINISTRATORS = {("S-1-5-18", "F", "OICI"), ("S-1-5-32-544", "F", "OICI")}
USERS = "S-1-5-32-545"


class EventFolder:
    """The folder of the events of a machine."""

    def __init__(self, warm: WarmMachine, path: Path) -> None:
        self.warm = warm
        self.path = path
        self.file = path / "scheduledevents.json"
        self.approvals = path / "approve"

    def run(self, work: str, **params: str | tuple[str, ...]) -> Sequence[ScriptRecord]:
        given: dict[str, str | tuple[str, ...]] = {"work": work, "folder": str(self.path), **params}
        script = Script("event_file", given, read_only=work == "look")
        answer = self.warm.open_host().run_script(script, deadline=Deadline.after(CLOCK, 60))
        assert answer.records, answer.unframed_output
        return answer.records

    def refused(self, work: str) -> str:
        (record,) = self.run(work, document=DOCUMENT)
        assert record["kind"] == "refused"
        return str(record["why"])

    def read_acl(self, path: Path) -> tuple[str, bool, set[tuple[str, str, str]]]:
        acl = json.loads((self.warm.windows.folder / "state.json").read_text())["acls"][str(path)]
        grants = {(grant["sid"], grant["rights"], grant["flags"]) for grant in acl["grants"]}
        return acl["owner"], acl["protected"], grants

    def give_away(self, path: Path) -> None:
        with change_state(self.warm.windows.folder) as state:
            state["acls"][str(path)]["owner"] = "S-1-5-21-1-2-3-1001"


@pytest.fixture
def folder(warm: WarmMachine) -> Iterator[EventFolder]:
    yield EventFolder(warm, warm.make_place())
    with change_state(warm.windows.folder) as state:
        state["acls"].clear()


def test_a_text_is_read_as_it_was_laid_down(folder: EventFolder) -> None:
    assert folder.run("look") == ({"kind": "document", "text": ""},)
    assert folder.run("tell", document="{}") == ({"kind": "told"},)
    assert folder.run("tell", document=DOCUMENT) == ({"kind": "told"},)

    assert folder.run("look") == ({"kind": "document", "text": DOCUMENT},)
    assert folder.file.read_bytes() == f"{DOCUMENT}\n".encode()
    assert sorted(path.name for path in folder.path.iterdir()) == ["approve", "scheduledevents.json"]


def test_users_read_the_file_and_add_approvals_and_change_nothing_else(folder: EventFolder) -> None:
    for _ in range(2):
        folder.run("tell", document=DOCUMENT)
        assert folder.read_acl(folder.path) == ("S-1-5-32-544", True, {*ADMINISTRATORS, (USERS, "RX", "OICI")})
        assert folder.read_acl(folder.approvals) == ("S-1-5-32-544", True, {*ADMINISTRATORS, (USERS, "WD,X,S", "")})


def test_without_a_folder_it_is_beside_the_data_of_programs(warm: WarmMachine) -> None:
    place = EventFolder(warm, warm.windows.folder / "C/ProgramData/fleetpatch-events")
    assert place.run("tell", document=DOCUMENT, folder="") == ({"kind": "told"},)
    assert place.file.exists()


def test_approvals_are_found_by_their_names_and_removed(folder: EventFolder) -> None:
    folder.run("tell", document=DOCUMENT)
    (folder.approvals / FIRST).touch()
    odd = ("../scheduledevents.json", "*", FIRST.upper())

    records = folder.run("look", events=(FIRST, SECOND, *odd))
    folder.run("tell", document="{}", over=(FIRST, SECOND, *odd))

    assert records[1:] == ({"kind": "approval", "event": FIRST},)
    assert list(folder.approvals.iterdir()) == []
    assert folder.run("look", events=(FIRST,)) == ({"kind": "document", "text": "{}"},)


def test_an_approval_that_can_not_be_removed_holds_nothing_up(folder: EventFolder) -> None:
    folder.run("tell", document=DOCUMENT)
    (folder.approvals / FIRST).mkdir()  # on Windows: a file that its user keeps open
    (folder.approvals / SECOND).touch()

    assert folder.run("tell", document="{}", over=(FIRST, SECOND)) == ({"kind": "told"},)
    assert [path.name for path in folder.approvals.iterdir()] == [FIRST]
    assert folder.run("look", events=(FIRST,)) == ({"kind": "document", "text": "{}"},)


@pytest.mark.parametrize("part", ["", "approve"])
def test_a_link_is_refused(folder: EventFolder, part: str, tmp_path: Path) -> None:
    if part:
        folder.run("tell", document="{}")
        folder.approvals.rmdir()
    (folder.path / part).symlink_to(tmp_path)

    assert folder.refused("tell") == f"{folder.path / part} is a link"
    if not part:
        assert folder.refused("look") == f"{folder.path} is a link"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["", "approve"])
def test_a_folder_of_another_user_is_refused(folder: EventFolder, part: str) -> None:
    folder.run("tell", document="{}")
    folder.give_away(folder.path / part)

    assert folder.refused("tell") == f"{folder.path / part} belongs to another user"
    if not part:
        assert folder.refused("look") == f"{folder.path} belongs to another user"
    assert folder.file.read_text() == "{}\n"


def test_a_file_that_can_not_be_written_is_named(folder: EventFolder) -> None:
    folder.run("tell", document="{}")
    folder.file.unlink()
    folder.file.mkdir()

    assert folder.refused("tell").startswith(f"cannot write {folder.file}: ")


def test_where_the_rights_can_not_be_set_nothing_is_written() -> None:
    with WarmMachine.opened(Scenario(icacls_fails=True)) as warm:
        folder = EventFolder(warm, warm.make_place())
        folder.path.mkdir()
        grants = [{"sid": sid, "rights": rights, "flags": flags} for sid, rights, flags in ADMINISTRATORS]
        with change_state(warm.windows.folder) as state:
            state["acls"][str(folder.path)] = {"owner": "S-1-5-32-544", "protected": True, "grants": grants}
        assert folder.refused("tell") == f"cannot write {folder.path}: icacls.exe failed (5)"
        assert list(folder.path.iterdir()) == []
