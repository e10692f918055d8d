"""The contract of components: each kind in a real shell, over stand-ins for its tools, and the fake of other tests."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.domain.components import InstalledComponent
from tasks.domain.protocols.package_manager import JobKind
from tasks.domain.protocols.transport import JobPhase
from tasks.machines.managers.components.kinds import ComponentKind
from tasks.machines.managers.components.manager import ComponentManager
from tests.contract.component_subjects import TOOLS, FakeSubject, ShellSubject, Subject, ends, kinds
from tests.support.fake_manager import FakeManager


@pytest.fixture(params=["fake", *TOOLS])
def subject(request: pytest.FixtureRequest, make_shell: Callable[[str], ShellSubject]) -> Subject:
    return FakeSubject() if request.param == "fake" else make_shell(request.param)


def test_a_version_comes_and_the_one_before_comes_back(subject: Subject) -> None:
    assert subject.read() == InstalledComponent("app", "1.0.0")
    staged = subject.run(JobKind.STAGE, "1.0.0", "1.1.0")
    assert (staged.phase, ends(staged)) == (JobPhase.FINISHED, [(0, "")])
    assert subject.read().version == "1.0.0"  # a download changes nothing
    installed = subject.run(JobKind.INSTALL, "1.0.0", "1.1.0")
    assert "transaction_started" in kinds(installed)
    assert ends(installed) == [(0, "")], installed.log
    assert subject.read() == InstalledComponent("app", "1.1.0")
    back = subject.run(JobKind.ROLL_BACK, "1.1.0", "1.0.0")
    assert ends(back) == [(0, "")], back.log
    assert subject.read() == InstalledComponent("app", "1.0.0")


def test_what_is_not_installed_is_told_so(subject: Subject) -> None:
    subject.forget()
    assert subject.read() == InstalledComponent("app", None, "")


def test_a_version_comes_to_a_machine_that_has_none(subject: Subject) -> None:
    subject.forget()
    installed = subject.run(JobKind.INSTALL, None, "1.0.0")
    assert ends(installed) == [(0, "")], installed.log
    assert subject.read() == InstalledComponent("app", "1.0.0")


WITH_FILES = [kind for kind in TOOLS if ComponentKind(kind).has_file]


@pytest.mark.parametrize("kind", WITH_FILES)
class TestFiles:
    @pytest.fixture
    def shell(self, kind: str, make_shell: Callable[[str], ShellSubject]) -> ShellSubject:
        return make_shell(kind)

    def test_a_file_with_another_digest_is_never_installed(self, shell: ShellSubject, tmp_path: Path) -> None:
        (tmp_path / "served/1.1.0").write_text("6.6.6\n")
        status = shell.run(JobKind.INSTALL, "1.0.0", "1.1.0")
        assert ends(status) == [(1, "fetch")]
        assert "another digest" in str(status.events[-2]["error"])
        assert shell.read().version == "1.0.0"
        assert list((tmp_path / "own/components/app").glob("*.part")) == []

    def test_without_the_file_of_the_present_version_nothing_begins(self, shell: ShellSubject, tmp_path: Path) -> None:
        (tmp_path / "served/1.0.0").unlink()
        status = shell.run(JobKind.INSTALL, "1.0.0", "1.1.0")
        assert ends(status) == [(1, "fetch")]
        assert "transaction_started" not in kinds(status)
        assert shell.read().version == "1.0.0"

    def test_the_way_back_needs_no_network(self, shell: ShellSubject, tmp_path: Path) -> None:
        shell.run(JobKind.INSTALL, "1.0.0", "1.1.0")
        (tmp_path / "served/1.0.0").unlink()
        assert ends(shell.run(JobKind.ROLL_BACK, "1.1.0", "1.0.0")) == [(0, "")]
        assert shell.read().version == "1.0.0"

    def test_a_stored_file_that_somebody_changed_is_fetched_again(self, shell: ShellSubject, tmp_path: Path) -> None:
        shell.run(JobKind.STAGE, "1.0.0", "1.1.0")
        stored = tmp_path / "own/components/app" / shell.component.versions[1].digest.removeprefix("sha256:")
        stored.write_text("6.6.6\n")
        assert ends(shell.run(JobKind.INSTALL, "1.0.0", "1.1.0")) == [(0, "")]
        assert shell.read().version == "1.1.0"

    def test_a_folder_that_leads_elsewhere_is_refused(self, shell: ShellSubject, tmp_path: Path) -> None:
        (tmp_path / "own/components").mkdir(parents=True)
        (tmp_path / "own/components/app").symlink_to(tmp_path)
        status = shell.run(JobKind.INSTALL, "1.0.0", "1.1.0")
        assert ends(status) == [(1, "failed")]
        assert "cannot make the folder" in str(status.events[-2]["error"])

    def test_old_files_are_removed_and_those_of_the_list_stay(self, shell: ShellSubject, tmp_path: Path) -> None:
        folder = tmp_path / "own/components/app"
        folder.mkdir(parents=True)
        (folder / ("f" * 64)).write_text("of an old version")
        shell.run(JobKind.INSTALL, "1.0.0", "1.1.0")
        assert {path.name for path in folder.iterdir()} == {
            version.digest.removeprefix("sha256:") for version in shell.component.versions
        }


def test_nothing_begins_after_its_latest_start(make_shell: Callable[[str], ShellSubject]) -> None:
    shell = make_shell("file")
    status = shell.run(JobKind.INSTALL, "1.0.0", "1.1.0", latest=1.0)
    assert [(event["kind"], event.get("why")) for event in status.events] == [
        ("not_attempted", "window"),
        ("finished", None),
    ]


def test_an_installation_that_fails_says_why(make_shell: Callable[[str], ShellSubject]) -> None:
    shell = make_shell("file")
    broken = replace(shell.component, install="echo 'no such library' >&2; exit 9")
    shell.component = broken
    shell.manager = ComponentManager(FakeManager(), [broken])
    status = shell.run(JobKind.INSTALL, "1.0.0", "1.1.0")
    assert ends(status) == [(9, "failed")]
    assert status.events[-2]["error"] == "failed: no such library"
    assert shell.read().version == "1.0.0"


def test_the_owner_s_own_way_back_is_taken(make_shell: Callable[[str], ShellSubject]) -> None:
    shell = make_shell("file")
    shell.component = replace(shell.component, roll_back=f"echo 0.9.9 >{shell.state}")
    shell.manager = ComponentManager(FakeManager(), [shell.component])
    shell.run(JobKind.ROLL_BACK, "1.1.0", "1.0.0")
    assert shell.read().version == "0.9.9"
    shell.run(JobKind.INSTALL, None, "1.0.0")  # a new disk, on which nothing is put back
    assert shell.read().version == "1.0.0"


@pytest.mark.parametrize(
    ("command", "version", "problem"),
    [
        ("echo app version 1.2", "1.2", ""),
        ("true", None, ""),
        ("no-such-command-here", None, ""),
        ("exit 127", None, ""),
        ("echo nothing to see", None, "no version can be found in the answer: nothing to see"),
        ("echo broken >&2; exit 3", None, "the question for its version ended with 3: broken"),
        ("echo 'version 1.2\033[31m'", "1.2", ""),
        (f"echo version {'9' * 200}", None, "no version can be found in the answer"),
    ],
)
def test_what_answers_mean(
    make_shell: Callable[[str], ShellSubject], command: str, version: str | None, problem: str
) -> None:
    shell = make_shell("file")
    shell.manager = ComponentManager(FakeManager(), [replace(shell.component, version_command=command)])
    installed = shell.read()
    assert installed.version == version
    assert installed.problem.startswith(problem)
    assert bool(installed.problem) == bool(problem)
