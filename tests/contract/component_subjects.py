"""Machines with a component at version 1.0.0: the fake of other tests, and a real shell over stand-ins for tools.

Here a file of a version contains its version, and a tool that installs it writes that down.
"""

import functools
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from inventory.machine import Inventory, Machine, PrivilegeMethod, TransportKind
from tasks.domain.components import Component, ComponentVersion, InstalledComponent
from tasks.domain.model import Update
from tasks.domain.protocols.clock import Clock, Deadline, SystemClock
from tasks.domain.protocols.package_manager import JobKind, Transaction
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus, Transport
from tasks.domain.states import Classification
from tasks.machines.managers.components.kinds import ComponentKind
from tasks.machines.managers.components.manager import ComponentManager
from tasks.machines.transport.session_factory import build_session
from tests.support.components import make_component
from tests.support.fake_clock import FakeClock
from tests.support.fake_components import FakeComponents
from tests.support.fake_manager import FakeManager
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
  refresh | install) [ -s {state} ] || [ "$1" = install ] || {{ echo "error: snap $3 is not installed" >&2; exit 1; }}
    case $2 in --revision=100) echo 1.0.0 ;; --revision=110) echo 1.1.0 ;; *) exit 1 ;; esac >{state} ;;
esac
"""
FLATPAK = """case $1 in
  info) [ -s {state} ] || {{ echo "error: $2/*unspecified*/*unspecified* not installed" >&2; exit 1; }}
    printf '\\nApp - does it\\n\\n        ID: %s\\n   Version: %s\\n' "$2" "$(cat {state})" ;;
  install) [ "$4" = app ] && echo 9.9.9 >{state} ;;
  update) [ -s {state} ] || {{ echo "error: $5 not installed" >&2; exit 1; }}
    case $4 in --commit=100) echo 1.0.0 ;; --commit=110) echo 1.1.0 ;; *) exit 1 ;; esac >{state} ;;
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

    def run(self, kind: JobKind, installed: str | None, available: str, latest: float | None = None) -> JobStatus:
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
                ComponentVersion(version, f"{url}/{version}", "", f"sha256:{digest}")
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


@contextmanager
def serve_files(folder: Path) -> Iterator[str]:
    """Serve the files of a folder on loopback, and give the URL."""
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@contextmanager
def open_shells(place: Path, patch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ShellSubject]]:
    """Give a function that makes this machine one with a component of a kind."""
    (place / "tools").mkdir()
    patch.setenv("PATH", f"{place}/tools:/usr/bin:/bin")
    job_root = str(place / "own/jobs")
    with (
        serve_files(place / "served") as url,
        build_session(MACHINE, Inventory((MACHINE,)), clock=SystemClock(), job_root=job_root) as session,
    ):

        def make(kind: str) -> ShellSubject:
            for name, text in TOOLS[kind].items():
                tool = place / "tools" / name
                tool.write_text("#!/bin/sh\n" + text.format(state=place / "installed"))
                tool.chmod(0o755)
            return ShellSubject(kind, place, url, session)

        yield make


def ends(status: JobStatus) -> list[tuple[object, object]]:
    return [(event["exit_code"], event["cause"]) for event in status.events if event["kind"] == "transaction_ended"]


def kinds(status: JobStatus) -> list[object]:
    return [event["kind"] for event in status.events]
