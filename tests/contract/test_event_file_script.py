"""event_file.sh in real shells: who may read, who may approve, and what somebody else has put there."""

import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.domain.protocols.transport import ScriptRecord
from tasks.machines.transport.output_decoder import ScriptOutputDecoder, generate_nonce
from tasks.machines.transport.posix_shell import build_script_stdin
from tasks.machines.transport.script_library import load_script
from tests.support.shells import SHELLS

FIRST, SECOND = "f020ba2e-3bc0-4c40-a10b-86575a9eabd5", "11111111-2222-3333-4444-555555555555"
DOCUMENT = '{"DocumentIncarnation": 5, "Events": [{"Description": "It\'s \\"odd\\" $(id) `id` ünï"}]}'


@dataclass(frozen=True, slots=True)
class Machine:
    folder: Path
    shell: list[str]

    def run(self, work: str, **params: str | tuple[str, ...]) -> Sequence[ScriptRecord]:
        nonce = generate_nonce()
        given: dict[str, str | tuple[str, ...]] = {"work": work, "folder": str(self.folder), **params}
        done = subprocess.run(
            [*self.shell, "-s"],
            input=build_script_stdin(load_script("event_file"), given, nonce),
            capture_output=True,
            check=False,
            timeout=60,
        )
        decoder = ScriptOutputDecoder(nonce)
        decoder.feed_stdout(done.stdout)
        output = decoder.build_output()
        assert output.records, done.stderr
        return output.records

    def refused(self, work: str) -> str:
        (record,) = self.run(work, document=DOCUMENT)
        assert record["kind"] == "refused"
        return str(record["why"])


@pytest.fixture(params=[name for name, words in SHELLS.items() if shutil.which(words[0])])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    words = SHELLS[request.param]
    return Machine(tmp_path / "events", [str(shutil.which(words[0])), *words[1:]])


def test_what_is_laid_down_is_read_exactly_and_replaced_at_once(machine: Machine) -> None:
    assert machine.run("look") == ({"kind": "document", "text": ""},)
    assert machine.run("tell", document="{}") == ({"kind": "told"},)
    before = (machine.folder / "scheduledevents.json").stat().st_ino
    assert machine.run("tell", document=DOCUMENT) == ({"kind": "told"},)

    assert machine.run("look") == ({"kind": "document", "text": DOCUMENT},)
    assert (machine.folder / "scheduledevents.json").read_text() == f"{DOCUMENT}\n"
    assert (machine.folder / "scheduledevents.json").stat().st_ino != before
    assert sorted(path.name for path in machine.folder.iterdir()) == ["approve", "scheduledevents.json"]


def test_all_may_read_and_approve_and_only_its_owner_may_change_it(machine: Machine) -> None:
    machine.run("tell", document=DOCUMENT)

    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in (machine.folder, *machine.folder.iterdir())}
    assert modes == {"events": "0o755", "approve": "0o1733", "scheduledevents.json": "0o644"}


def test_approvals_are_found_by_their_names_and_removed(machine: Machine) -> None:
    machine.run("tell", document=DOCUMENT)
    approvals = machine.folder / "approve"
    (approvals / FIRST).touch()
    (approvals / "../../etc/passwd").resolve()
    (approvals / SECOND).symlink_to("/etc/passwd")

    kinds = machine.run("look", events=(FIRST, SECOND, "../scheduledevents.json", "*", ""))
    machine.run("tell", document="{}", over=(FIRST, SECOND, "../scheduledevents.json", "*"))

    assert kinds[1:] == ({"kind": "approval", "event": FIRST},)
    assert list(approvals.iterdir()) == []
    assert machine.run("look") == ({"kind": "document", "text": "{}"},)


def test_a_folder_full_of_other_names_holds_nobody_up(machine: Machine) -> None:
    machine.run("tell", document=DOCUMENT)
    for number in range(300):
        (machine.folder / "approve" / f"{number}").touch()
    (machine.folder / "approve" / FIRST).touch()

    assert machine.run("look", events=(FIRST,))[1:] == ({"kind": "approval", "event": FIRST},)


def test_what_somebody_else_has_put_there_is_refused(machine: Machine, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    machine.folder.symlink_to(elsewhere)

    assert "is a link" in machine.refused("tell")
    assert "is a link" in machine.refused("look")
    assert list(elsewhere.iterdir()) == []
    machine.folder.unlink()
    machine.folder.touch()
    assert "is no folder" in machine.refused("tell")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder to another user")
def test_a_folder_of_another_user_is_refused(machine: Machine) -> None:
    machine.folder.mkdir()
    os.chown(machine.folder, 65534, 65534)

    assert "belongs to another user" in machine.refused("tell")
    assert list(machine.folder.iterdir()) == []


def test_a_link_in_place_of_the_file_is_replaced_and_not_followed(machine: Machine, tmp_path: Path) -> None:
    machine.run("tell", document="{}")
    target = tmp_path / "target"
    target.write_text("precious")
    (machine.folder / "scheduledevents.json").unlink()
    (machine.folder / "scheduledevents.json").symlink_to(target)

    assert machine.run("look") == ({"kind": "document", "text": ""},)
    machine.run("tell", document=DOCUMENT)
    assert target.read_text() == "precious"
