"""A repository that is not read leaves the judgement open, is told, and is not waited for without end."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

import tasks.machines.managers.manager_base
from tasks.domain.model import Finding, RunReport
from tasks.domain.states import Compliance, FindingLevel, OperationState, UpdateState
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import BootHosts, Flavour, LabHost
from tests.lab.packages import DEBIAN_SECURITY, DebRepository, RpmRepository

FLAVOURS: tuple[Flavour, ...] = ("apt", "dnf", "zypper")
FOLDERS = {"dnf": "etc/yum.repos.d", "zypper": "etc/zypp/repos.d"}
REFRESH_SECONDS = (12, 40, 150)
"""The limit, and those after it: on busy cores the first may pass before a package manager has begun to read."""


def add_source(host: LabHost, place: Path, url: str) -> None:
    """Configure one more repository; of apt, beside one in which nothing is pending."""
    if host.flavour == "apt":
        good = DebRepository(place / "good", DEBIAN_SECURITY)
        good.add("made-unneeded", "1.0")
        host.sh("rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*", root=True)
        good.publish(host)
        host.sh("apt-get -qq update", root=True)
        (host.root / "etc/apt/sources.list.d/unread.list").write_text(f"deb [trusted=yes] {url} unread main\n")
        return
    text = f"[unread]\nname=unread\nbaseurl={url}\nenabled=1\ngpgcheck=0\n"
    (host.root / FOLDERS[host.flavour] / "unread.repo").write_text(text)


def patch_nothing(host: LabHost, place: Path) -> RunReport:
    return Fleet([host], place).patch("nothing-has-this-name", reboot="Never")


def find_unread(report: RunReport, host: LabHost) -> list[Finding]:
    findings = outcome_of(report, host).findings
    return [each for each in findings if each.check == "repositories" and each.level is FindingLevel.WARN]


def require_open_judgement(report: RunReport, host: LabHost) -> None:
    """The machines with dnf and zypper have security fixes pending in the lab's repository; the others have none."""
    expected = Compliance.NOT_ASSESSED if host.flavour == "apt" else Compliance.NON_COMPLIANT
    assert report.assessments[-1].compliance is expected
    assert outcome_of(report, host).state is OperationState.COMPLETED_WITH_WARNINGS


def end_support(host: LabHost) -> None:
    host.sh("cp --remove-destination $(readlink -f /etc/os-release) /etc/os-release", root=True)
    host.sh("echo 'SUPPORT_END=2024-06-30' >> /etc/os-release", root=True)


def require_end_of_support(finding: Finding) -> None:
    assert finding.message.startswith("fixes are not seen: the support of ")
    assert "has ended on 2024-06-30" in finding.message


@pytest.mark.public_report("https://github.com/Azure/LinuxPatchExtension: a dead repository, and nothing is told")
@pytest.mark.public_report("https://github.com/systemd/systemd/issues/21764")
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_repository_that_refuses_is_a_warning_though_nothing_is_to_be_done(
    hosts: BootHosts, flavour: Flavour, tmp_path: Path
) -> None:
    """On dnf and zypper, the assessment also warns that the support of the system has ended."""
    (host,) = hosts(1, flavour)
    add_source(host, tmp_path, "http://127.0.0.1:9/x")
    if flavour != "apt":
        end_support(host)
    report = patch_nothing(host, tmp_path)
    require_open_judgement(report, host)
    unread, *ended = sorted(find_unread(report, host), key=lambda finding: "the support of" in finding.message)
    assert "unread" in unread.message
    assert "(route, firewall, proxy)" in unread.remedy
    assert len(ended) == (0 if flavour == "apt" else 1)
    for finding in ended:
        require_end_of_support(finding)


@pytest.mark.public_report("https://github.com/systemd/systemd/issues/21764")
def test_a_system_whose_support_has_ended_leaves_the_judgement_open(hosts: BootHosts, tmp_path: Path) -> None:
    (host,) = hosts(1)
    add_source(host, tmp_path, "http://127.0.0.1:9/x")
    host.sh("rm /etc/apt/sources.list.d/unread.list", root=True)
    end_support(host)
    report = patch_nothing(host, tmp_path)
    (finding,) = find_unread(report, host)
    require_end_of_support(finding)
    require_open_judgement(report, host)


@pytest.fixture
def trickle() -> Iterator[int]:
    """A server that answers for ever, faster than any package manager's own limit; its port."""
    server = socket.create_server(("", 0), backlog=50)

    def serve(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            size, pause = (1, 2.0) if b"/dists/" in connection.recv(2000) else (400, 0.2)  # apt has no lower limit
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nContent-Type: text/plain\r\n\r\n")
            while True:
                connection.sendall(b"-" * size)
                time.sleep(pause)

    def accept() -> None:
        with suppress(OSError):
            while True:
                Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    Thread(target=accept, daemon=True).start()
    yield server.getsockname()[1]
    server.close()


@pytest.mark.public_report("https://github.com/GoogleCloudPlatform/osconfig/issues/726")
@pytest.mark.public_report("https://github.com/googleapis/google-cloud-cpp/issues/2780")
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_mirror_that_trickles_is_named_holds_no_installation_and_nothing_of_ours_stays(
    hosts: BootHosts, flavour: Flavour, trickle: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host,) = hosts(1, flavour)
    slow = f"http://{host.address.rpartition('.')[0]}.1:{trickle}/x"
    if flavour != "apt":
        known = RpmRepository(tmp_path / "known")
        known.add("a-known", "1.0")
        known.publish(host, options="autorefresh=1")
        host.sh({"dnf": "dnf -q makecache", "zypper": "zypper -n refresh"}[flavour], root=True)
        host.sh(f"sed -i 's|^baseurl=.*|baseurl={slow}|' /{FOLDERS[flavour]}/known.repo", root=True)
        if flavour == "zypper":
            host.sh("find /var/cache/zypp/raw/known -exec touch -d '2 days ago' {} +", root=True)  # so it would read it
    add_source(host, tmp_path, slow)  # and one that was never read
    for seconds in REFRESH_SECONDS:
        monkeypatch.setattr(tasks.machines.managers.manager_base, "REFRESH_TIMEOUT_SECONDS", seconds)
        if flavour == "apt" or seconds != REFRESH_SECONDS[0]:
            report = patch_nothing(host, tmp_path)
        else:
            report = Fleet([host], tmp_path).patch("lab-plain", reboot="Never", minutes=6)
            assert result_of(outcome_of(report, host), "lab-plain").state is UpdateState.INSTALLED
        messages = [each.message for each in find_unread(report, host)]
        is_named = any(f"{name}: it is too slow" in message for name in ("known", "unread") for message in messages)
        if is_named:
            break
    assert is_named, messages
    assert any("unread" in message for message in messages), messages
    require_open_judgement(report, host)
    assert not host.sh("pgrep -lx 'apt-get|dnf|zypper|http' || true").strip()


@pytest.mark.public_report("Debian's security archive after its Valid-Until, and apt's harmless warnings")
def test_expired_lists_are_told_and_a_source_that_stands_twice_is_not(hosts: BootHosts, tmp_path: Path) -> None:
    (host,) = hosts(1)
    add_source(host, tmp_path, "http://127.0.0.1:9/x")
    host.sh("cd /etc/apt/sources.list.d; rm unread.list; for each in *.list; do cp $each twice-$each; done", root=True)
    report = patch_nothing(host, tmp_path)
    assert outcome_of(report, host).state is OperationState.SUCCEEDED
    assert report.assessments[-1].compliance is Compliance.COMPLIANT

    expired = DebRepository(tmp_path / "expired", {**DEBIAN_SECURITY, "ValidTime": "1"})
    host.sh("rm /etc/apt/sources.list.d/*", root=True)
    expired.add("made-unneeded", "1.0")
    expired.publish(host)
    time.sleep(2)
    other = DebRepository(tmp_path / "other", {**DEBIAN_SECURITY, "Label": "Other", "Suite": "other"})
    other.add("made-unneeded", "1.0")
    other.publish(host)
    report = patch_nothing(host, tmp_path)
    (finding,) = find_unread(report, host)
    assert "is expired (invalid since" in finding.message
    assert report.assessments[-1].compliance is Compliance.NOT_ASSESSED

    host.sh("echo 'Acquire::Check-Valid-Until no;' > /etc/apt/apt.conf.d/99snapshot", root=True)
    (finding,) = find_unread(patch_nothing(host, tmp_path), host)
    assert "and was valid until" in finding.message

    frozen = {**DEBIAN_SECURITY, "Date": "Thu, 01 Oct 2026 10:00:00 UTC"}
    host.sh("rm /etc/apt/sources.list.d/*", root=True)
    snapshot = DebRepository(tmp_path / "snapshot", frozen)
    snapshot.add("made-unneeded", "1.0")
    snapshot.publish(host)
    report = patch_nothing(host, tmp_path)
    (finding,) = find_unread(report, host)
    assert "its content is of 2026-10-01" in finding.message
    assert report.assessments[-1].compliance is Compliance.NOT_ASSESSED
