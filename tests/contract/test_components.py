"""The contract of components: each kind in a real shell, over stand-ins for its tools, and the fake of the other tests.

Here a file of a version contains its version, and a tool that installs it writes that down.
"""

import functools
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from inventory.machine import Inventory, Machine, PrivilegeMethod, TransportKind
from tasks.domain.components import Component, ComponentOrder, ComponentVersion, InstalledComponent
from tasks.domain.errors import ScriptFailed
from tasks.domain.model import Update
from tasks.domain.protocols.clock import Clock, Deadline, SystemClock
from tasks.domain.protocols.package_manager import JobKind, Transaction
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus, Transport
from tasks.domain.states import Classification
from tasks.machines.managers.components.kinds import ComponentKind
from tasks.machines.managers.components.manager import ComponentManager
from tasks.machines.transport.session_factory import build_session
from tasks.steps.component_files import PART_BYTES, send_component_files
from tasks.steps.context.machine_context import MachineContext, MachineState
from tasks.steps.context.run_context import PatchOptions, RunContext
from tests.support import builders as make
from tests.support.components import make_component
from tests.support.fake_clock import FakeClock
from tests.support.fake_components import FakeComponents
from tests.support.fake_manager import FakeManager
from tests.support.fake_records import FakeRecords
from tests.support.fleet import SimFleet

MACHINE = Machine("here", "", transport=TransportKind.LOCAL, privilege=PrivilegeMethod.NONE)
REFERENCES = {"1.0.0": "100", "1.1.0": "110"}

DPKG_QUERY = """[ -s {state} ] || {{ echo "dpkg-query: no packages found matching $3" >&2; exit 1; }}
echo "installed $(cat {state})"
"""
APT_GET = """for last; do :; done
case $last in */*) cat "$last" >{state} ;; *=*) echo "${{last#*=}}" >{state} ;; esac
"""
RPM = """case $1 in
  -q) [ -s {state} ] || {{ echo "package $4 is not installed"; exit 1; }}; cat {state} ;;
  -U) for last; do :; done; cat "$last" >{state} ;;
esac
"""
SNAP = """case $1 in
  list) [ -s {state} ] || {{ echo 'error: no matching snaps installed' >&2; exit 1; }}
    printf 'Name Version Rev Tracking Publisher Notes\\n%s %s 7 latest x -\\n' "$2" "$(cat {state})" ;;
  refresh) case $2 in --revision=100) echo 1.0.0 ;; --revision=110) echo 1.1.0 ;; *) exit 1 ;; esac >{state} ;;
esac
"""
FLATPAK = """case $1 in
  info) [ -s {state} ] || {{ echo "error: $2/*unspecified*/*unspecified* not installed" >&2; exit 1; }}
    printf '\\nApp - does it\\n\\n        ID: %s\\n   Version: %s\\n' "$2" "$(cat {state})" ;;
  update) case $4 in --commit=100) echo 1.0.0 ;; --commit=110) echo 1.1.0 ;; *) exit 1 ;; esac >{state} ;;
esac
"""
TOOLS = {
    "deb": {"dpkg-query": DPKG_QUERY, "apt-get": APT_GET},
    "package": {"dpkg-query": DPKG_QUERY, "apt-get": APT_GET},
    "rpm": {"rpm": RPM},
    "snap": {"snap": SNAP},
    "flatpak": {"flatpak": FLATPAK},
    "file": {"app": '[ -s {state} ] || exit 127\necho "app version $(cat {state}), built today"\n'},
}


class Subject:
    """A machine with a component at version 1.0.0, and what is asked of it."""

    def __init__(self, component: Component, transport: Transport, clock: Clock) -> None:
        self.component, self.transport, self.clock = component, transport, clock
        self.manager = ComponentManager(FakeManager(), [component])
        self._jobs = 0

    def forget(self) -> None:
        """Uninstall the component, behind the back of everybody."""
        raise NotImplementedError

    def read(self) -> InstalledComponent:
        (installed,) = self.manager.read_components(self.transport, deadline=self.soon)
        return installed

    @property
    def soon(self) -> Deadline:
        return Deadline.after(self.clock, 60)

    def run(self, kind: JobKind, installed: str, available: str, latest: float | None = None) -> JobStatus:
        update = Update(self.component.update_id, self.component.name, "", installed, available, Classification.OTHER)
        until = self.clock.now().timestamp() + 3600 if latest is None else latest
        script = self.manager.build_job_script(kind, [Transaction(0, (update,), until, 60)])
        self._jobs += 1
        job = Job(f"job-{self._jobs}", script)
        status = self.transport.start_job(job, deadline=self.soon)
        while status.phase is JobPhase.RUNNING:
            self.clock.sleep(0.05)
            status = self.transport.poll_job(job.id, deadline=self.soon)
        return self.transport.poll_job(job.id, deadline=self.soon)


class FakeSubject(Subject):
    """The fake of the tests of the engine."""

    def __init__(self) -> None:
        clock = FakeClock()
        fleet = SimFleet(clock=clock)
        machine = fleet.add("web", [])
        self.fake = FakeComponents(machine, {"app": "1.0.0"})
        super().__init__(make_component("app", "1.0.0", "1.1.0"), machine, clock)

    def forget(self) -> None:
        self.fake.versions["app"] = None


class ShellSubject(Subject):
    """The scripts in a shell of this machine."""

    def __init__(self, kind: str, place: Path, url: str, transport: Transport) -> None:
        self.state = place / "installed"
        self.state.write_text("1.0.0\n")
        versions = []
        for version in ("1.0.0", "1.1.0"):
            content = f"{version}\n".encode()
            (place / "served" / version).write_bytes(content)
            digest, reference = hashlib.sha256(content).hexdigest(), REFERENCES[version]
            has_file = ComponentKind(kind).has_file
            versions.append(
                ComponentVersion(version, f"{url}/{version}", "", digest)
                if has_file
                else ComponentVersion(version, reference=reference if kind in {"snap", "flatpak"} else "")
            )
        component = make_component("app", kind=kind, versions=tuple(versions))
        if kind == "file":
            install = f'[ "$COLOUR" = "deep blue" ] && cat "$FLEETPATCH_FILE" >{self.state}'
            component = replace(
                component,
                version_command="app --version",
                version_pattern="version ([0-9.]+)",
                install=install,
                settings={"COLOUR": "deep blue"},
            )
        else:
            component = replace(component, version_command="", version_pattern="", install="")
        super().__init__(component, transport, SystemClock())

    def forget(self) -> None:
        self.state.unlink()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "served")))
    threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def make_shell(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ShellSubject]]:
    (tmp_path / "tools").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/tools:/usr/bin:/bin")
    with build_session(
        MACHINE, Inventory((MACHINE,)), clock=SystemClock(), job_root=str(tmp_path / "own/jobs")
    ) as session:

        def make(kind: str) -> ShellSubject:
            for name, text in TOOLS[kind].items():
                tool = tmp_path / "tools" / name
                tool.write_text("#!/bin/sh\n" + text.format(state=tmp_path / "installed"))
                tool.chmod(0o755)
            return ShellSubject(kind, tmp_path, url, session)

        yield make


@pytest.fixture(params=["fake", *TOOLS])
def subject(request: pytest.FixtureRequest, make_shell: Callable[[str], ShellSubject]) -> Subject:
    return FakeSubject() if request.param == "fake" else make_shell(request.param)


def ends(status: JobStatus) -> list[tuple[object, object]]:
    return [(event["exit_code"], event["cause"]) for event in status.events if event["kind"] == "transaction_ended"]


def kinds(status: JobStatus) -> list[object]:
    return [event["kind"] for event in status.events]


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
        stored = tmp_path / "own/components/app" / shell.component.versions[1].sha256
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
        assert {path.name for path in folder.iterdir()} == {version.sha256 for version in shell.component.versions}


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


class TestFilesOfTheController:
    """Files that the controller sends, by the step that sends them, in a real shell."""

    def send(self, shell: ShellSubject, place: Path, content: bytes, digest: str = "") -> None:
        (place / "1.0.0").write_bytes(b"1.0.0\n")
        (place / "1.1.0").write_bytes(content)
        versions = tuple(
            ComponentVersion(
                version,
                file=str(place / version),
                sha256=(digest if version == "1.1.0" else "")
                or hashlib.sha256((place / version).read_bytes()).hexdigest(),
            )
            for version in ("1.0.0", "1.1.0")
        )
        shell.component = replace(shell.component, versions=versions)
        shell.manager = ComponentManager(FakeManager(), [shell.component])
        update = Update(shell.component.update_id, "app", "", "1.0.0", "1.1.0", Classification.OTHER)
        order = ComponentOrder(shell.component)
        run_context = RunContext(
            make.make_run(),
            PatchOptions(component_order=order),
            shell.clock,
            FakeRecords(),
            lambda _: shell.transport,
            lambda _: FakeManager(),
        )
        state = MachineState(MACHINE, plan=make.make_plan(chosen=(update,), skipped=()))
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
