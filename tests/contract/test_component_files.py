"""Files of components that the controller sends, by the step that sends them, in a real shell."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.domain.components import ComponentOrder, ComponentVersion
from tasks.domain.errors import ScriptFailed
from tasks.domain.model import Update, Window
from tasks.domain.protocols.package_manager import JobKind
from tasks.domain.states import Classification
from tasks.machines.managers.components.manager import ComponentManager
from tasks.steps.component_files import PART_BYTES, send_component_files
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_context import PatchOptions, RunContext
from tests.contract.component_subjects import MACHINE, ShellSubject, ends
from tests.support import builders as make
from tests.support.fake_manager import FakeManager
from tests.support.fake_records import FakeRecords


class TestFilesOfTheController:
    """Files that the controller sends, by the step that sends them, in a real shell."""

    def send(self, shell: ShellSubject, place: Path, content: bytes, digest: str = "") -> None:
        (place / "1.0.0").write_bytes(b"1.0.0\n")
        (place / "1.1.0").write_bytes(content)
        versions = tuple(
            ComponentVersion(
                version,
                file=str(place / version),
                digest="sha256:"
                + (
                    (digest if version == "1.1.0" else "") or hashlib.sha256((place / version).read_bytes()).hexdigest()
                ),
            )
            for version in ("1.0.0", "1.1.0")
        )
        shell.component = replace(shell.component, versions=versions)
        shell.manager = ComponentManager(FakeManager(), [shell.component])
        update = Update(shell.component.update_id, "app", "", "1.0.0", "1.1.0", Classification.OTHER)
        order = ComponentOrder(shell.component)
        now = shell.clock.now()
        run_context = RunContext(
            make.make_run(window=Window(now, now + timedelta(hours=4))),
            PatchOptions(component_order=order),
            shell.clock,
            FakeRecords(),
            lambda _: shell.transport,
            lambda _: FakeManager(),
        )
        state = MachineState(
            MACHINE, assessment=make.make_assessment(), plan=make.make_plan(chosen=(update,), skipped=())
        )
        send_component_files(MachineContext(run_context, shell.transport, state))

    @pytest.fixture
    def shell(self, make_shell: Callable[[str], ShellSubject]) -> ShellSubject:
        return make_shell("file")

    @pytest.mark.parametrize("size", [6, PART_BYTES[MACHINE.os] - 1, PART_BYTES[MACHINE.os], 500_000])
    def test_a_file_arrives_whole_and_once(self, shell: ShellSubject, tmp_path: Path, size: int) -> None:
        content = (b"1.1.0\n" + bytes(range(256)) * 2000)[:size]
        self.send(shell, tmp_path, content)
        stored = tmp_path / "own/components/app" / hashlib.sha256(content).hexdigest()
        assert stored.read_bytes() == content
        assert stored.stat().st_mode & 0o777 == 0o600
        before = stored.stat().st_mtime_ns
        self.send(shell, tmp_path, content)
        assert stored.stat().st_mtime_ns == before

    def test_what_arrived_is_installed_and_taken_back_without_a_network(
        self, shell: ShellSubject, tmp_path: Path
    ) -> None:
        self.send(shell, tmp_path, b"1.1.0\n")
        assert ends(shell.run(JobKind.INSTALL, "1.0.0", "1.1.0")) == [(0, "")]
        assert shell.read().version == "1.1.0"
        assert ends(shell.run(JobKind.ROLL_BACK, "1.1.0", "1.0.0")) == [(0, "")]
        assert shell.read().version == "1.0.0"

    def test_a_transfer_that_was_cut_goes_on(self, shell: ShellSubject, tmp_path: Path) -> None:
        content = bytes(range(256)) * 2000
        folder = tmp_path / "own/components/app"
        (tmp_path / "own/jobs").mkdir(parents=True)
        folder.mkdir(parents=True)
        digest = hashlib.sha256(content).hexdigest()
        (folder / f"{digest}.part").write_bytes(content[:300_000])
        self.send(shell, tmp_path, content)
        assert (folder / digest).read_bytes() == content

    @pytest.mark.parametrize("wrong", ["file", "rest"])
    def test_another_file_is_not_stored(self, shell: ShellSubject, tmp_path: Path, wrong: str) -> None:
        folder = tmp_path / "own/components/app"
        if wrong == "rest":  # of another file, which was cut
            (tmp_path / "own/jobs").mkdir(parents=True)
            folder.mkdir(parents=True)
            (folder / f"{hashlib.sha256(b'1.1.0').hexdigest()}.part").write_bytes(b"9.9")
        digest = "c" * 64 if wrong == "file" else ""
        with pytest.raises(ScriptFailed, match="another digest"):
            self.send(shell, tmp_path, b"1.1.0", digest)
        assert not list(folder.glob("*.part"))

    def test_a_job_without_the_file_begins_nothing(self, shell: ShellSubject, tmp_path: Path) -> None:
        shell.component = replace(
            shell.component,
            versions=tuple(replace(version, url="", file="/x") for version in shell.component.versions),
        )
        shell.manager = ComponentManager(FakeManager(), [shell.component])
        status = shell.run(JobKind.INSTALL, "1.0.0", "1.1.0")
        assert ends(status) == [(1, "fetch")]
        assert "the controller has not sent the file" in str(status.events[-2]["error"])
