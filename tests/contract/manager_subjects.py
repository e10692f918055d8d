"""What the package managers' contract runs over: machines that are behind, fake and real, with the same packages."""

import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf

import pytest

from inventory.machine import PrivilegeMethod
from tasks.domain.model import Update
from tasks.domain.protocols.clock import Clock, Deadline, SystemClock
from tasks.domain.protocols.package_manager import PackageManager
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus, Script, Transport
from tasks.machines.managers.apt.manager import AptManager
from tasks.machines.managers.registry import MANAGER_TYPES
from tasks.machines.transport.local_channel import LocalShellChannel
from tasks.machines.transport.output_decoder import ScriptOutputDecoder
from tasks.machines.transport.posix_shell import PosixShell, PrivilegeEscalator
from tests.lab.fleet import Flavour, Lab, LabHost
from tests.support.fake_clock import FakeClock
from tests.support.fake_manager import FakeManager, PackageWorld
from tests.support.fake_transport import FakeTransport
from tests.support.reboot_guard import RebootGuard


@dataclass
class Subject:
    """A machine that has the lab's packages in their first version, and its package manager.

    Attributes:
        quicken: makes lab-slow take that many seconds.
        fix: makes lab-failing succeed from now on.
        hold: pins a package on the machine.
        remove: takes a package off the machine, as its administrator would.
        throttle: lets so many kB a second through, so that large updates take minutes; 0: all that there is.
        release: what versions of the lab's packages have at their end.
        kept_as: name of a new configuration file that was not put in the place of an edited one.
        leaves_half_done: whether a package whose script fails is left half done, and not as it was.
        reboot_reason: part of the reason for a reboot after lab-reboot was installed.
        remover: an update that takes the package ``removed`` away.
        past_stop: the record after which no stop keeps a transaction that has started from its work any more.
        offered: what was pending before anything was changed, once a test has asked.
    """

    manager: PackageManager
    transport: Transport
    clock: Clock
    quicken: Callable[[int], None]
    fix: Callable[[], None]
    hold: Callable[[str], None]
    remove: Callable[[str], None]
    throttle: Callable[[int], None]
    release: str = ""
    kept_as: str = "/etc/lab.conf.dpkg-dist"
    leaves_half_done: bool = True
    reboot_reason: str = "lab-reboot"
    remover: str = "lab-removes"
    removed: str = "lab-plain"
    past_stop: str = "progress"
    offered: dict[str, Update] = field(default_factory=dict)

    def v(self, version: str) -> str:
        """Return a version of a lab's package as this family writes it."""
        return version + self.release

    @property
    def soon(self) -> Deadline:
        """Time enough for one question."""
        return Deadline.after(self.clock, 90)

    def follow(self, job_id: str, seconds: float = 180) -> JobStatus:
        """Wait for a job's end; the view has all its events."""
        until, pause = self.clock.now() + timedelta(seconds=seconds), 0.3
        while True:
            view = self.transport.poll_job(job_id, deadline=self.soon)
            if view.phase is not JobPhase.RUNNING:
                return view
            assert self.clock.now() < until, f"{job_id} does not end"
            self.clock.sleep(pause)
            pause = min(1.2, pause * 1.5)  # each look costs the machine some dozens of processes

    def carry_out(self, job_id: str, script: Script) -> JobStatus:
        """Start a job and wait for its end."""
        self.transport.start_job(Job(job_id, script), deadline=self.soon)
        return self.follow(job_id)

    def stop(self, job_id: str) -> None:
        """Ask a job to stop."""
        self.transport.run_script(Script("job_stop", {"id": job_id}, read_only=False), deadline=self.soon)


def fake_subject() -> Subject:
    """A machine made of rules."""
    clock = FakeClock()
    machine, world = FakeTransport(clock), PackageWorld(clock)
    world.move_in(machine)
    guard = RebootGuard(world)
    machine.answer("reboot_obstacles", lambda _: guard.records("boot"))

    def quicken(seconds: int) -> None:
        world["lab-slow"].seconds = seconds

    def fix() -> None:
        world["lab-failing"].fails = ""

    def hold(name: str) -> None:
        world[name].held = True

    def remove(name: str) -> None:
        world[name].installed = None

    def throttle(rate: int) -> None:
        world.bytes_per_second = 50.0 * rate or inf  # its packages are small

    functions = (quicken, fix, hold, remove, throttle)
    return Subject(FakeManager(), machine, clock, *functions, past_stop="transaction_started")


class OpenSshLine(LocalShellChannel):
    """A line to a lab host through OpenSSH, so that only the manager is under test and not our own ssh."""

    def __init__(self, clock: Clock, host: LabHost) -> None:
        super().__init__(clock)
        options = (
            *("BatchMode=yes", "LogLevel=ERROR", "IdentitiesOnly=yes", "KexAlgorithms=^curve25519-sha256"),
            # One login for many calls. A machine that has lost its power ends it.
            *("ControlMaster=auto", "ControlPersist=30", f"ControlPath={host.key.parent}/line-{host.number}"),
            *("ServerAliveInterval=3", "ServerAliveCountMax=2", "ConnectTimeout=20"),
        )
        self._words = ["ssh", "-F", "none", "-i", str(host.key), "-l", host.user]
        self._words += [word for option in options for word in ("-o", option)]
        self._words += ["-o", f"UserKnownHostsFile={host.known_hosts}"]
        self._words.append(host.address)

    def execute(
        self, command: Sequence[str], stdin: bytes, decoder: ScriptOutputDecoder, *, deadline: Deadline
    ) -> int | None:
        return super().execute([*self._words, shlex.join(command)], stdin, decoder, deadline=deadline)


def lab_transport(host: LabHost) -> PosixShell:
    """A transport to a lab host."""
    clock = SystemClock()
    return PosixShell(
        OpenSshLine(clock, host), machine=host.name, privilege=PrivilegeEscalator(PrivilegeMethod.SUDO), clock=clock
    )


def apt_subject(host: LabHost) -> Subject:
    """A real machine with apt, its lists read."""
    host.sh("apt-get -qq update", root=True)
    return Subject(
        AptManager(),
        lab_transport(host),
        SystemClock(),
        quicken=lambda seconds: _tell(host, f"echo {seconds} > /etc/lab-slow-seconds"),
        fix=lambda: _tell(host, "touch /etc/lab-failing-fixed"),
        hold=lambda name: _tell(host, f"apt-mark hold {name}"),
        remove=lambda name: _tell(host, f"apt-get -q -y remove {name}"),
        throttle=lambda rate: _tell(host, f"echo 'Acquire::http::Dl-Limit \"{rate}\";' > /etc/apt/apt.conf.d/99limit"),
    )


RPM_HOLDS = {
    "dnf": "echo '{0}-0:1.0-1.*' >> /etc/dnf/plugins/versionlock.list",
    "zypper": "zypper addlock {0}",
}
RPM_THROTTLES = {
    "dnf": "sed -i /^throttle/d /etc/dnf/dnf.conf; echo throttle={0}k >> /etc/dnf/dnf.conf",
    "zypper": "sed -i /^download.max_download_speed/d /etc/zypp/zypp.conf;"
    " echo download.max_download_speed = {0}000 >> /etc/zypp/zypp.conf",
}


def rpm_subject(host: LabHost) -> Subject:
    """A real machine with dnf or zypper, its repositories read."""
    host.sh("dnf -q makecache" if host.flavour == "dnf" else "zypper -q refresh", root=True)
    return Subject(
        MANAGER_TYPES[host.flavour](),
        lab_transport(host),
        SystemClock(),
        quicken=lambda seconds: _tell(host, f"echo {seconds} > /etc/lab-slow-seconds"),
        fix=lambda: _tell(host, "touch /etc/lab-failing-fixed"),
        hold=lambda name: _tell(host, RPM_HOLDS[host.flavour].format(name)),
        remove=lambda name: _tell(host, f"rpm -e {name}"),
        throttle=lambda rate: _tell(host, RPM_THROTTLES[host.flavour].format(rate)),
        release="-1",
        kept_as="/etc/lab.conf.rpmnew",
        leaves_half_done=False,
        reboot_reason="/run/reboot-needed" if host.flavour == "zypper" else "lab-reboot",
        remover="lab-new",
        removed="lab-old",
    )


# What is installed of the lab's packages, packed as it was: a configuration file has been edited since.
_KEEP = r"""set -e
for name in $(dpkg-query -W -f '${Package}\n' 'lab-*'); do
  work=$(mktemp -d); chmod 755 $work; mkdir -p $work/DEBIAN /root/first
  dpkg-query -L $name | while read -r path; do [ -d "$path" ] || echo ".$path"; done |
    tar -C / -T - -cf - | tar -C $work -xf -
  dpkg-query -s $name | sed '/^Status:/d; /^Conffiles:/d; /^ /d' > $work/DEBIAN/control
  cp /var/lib/dpkg/info/$name.postinst $work/DEBIAN/postinst
  [ ! -e $work/etc/lab.conf ] || { echo setting=1.0 > $work/etc/lab.conf; echo /etc/lab.conf > $work/DEBIAN/conffiles; }
  dpkg-deb -Znone --root-owner-group -b $work /root/first/$name.deb > /dev/null; rm -r $work
done
"""
_NO_JOBS = r"""set -e
for _ in $(seq 600); do systemctl list-units --no-legend 'fleetpatch-*' | grep -q . || break; sleep 0.1; done
systemctl kill -s KILL 'fleetpatch-*' || true; systemctl reset-failed 'fleetpatch-*' || true # of a test that failed
while systemd-inhibit --list --no-pager --no-legend | grep -q fleetpatch; do sleep 0.2; done
rm -rf /etc/lab-slow-seconds /etc/lab-failing-fixed /var/lib/fleetpatch /run/reboot-required* /run/reboot-needed
"""
_RENEW = r"""rm -rf /etc/apt/apt.conf.d/99limit
apt-mark -qq unhold 'lab-*'; apt-get clean
dpkg -i --force-conflicts --force-depends --force-confnew /root/first/*.deb > /root/renewed 2>&1
rm -f /etc/lab.conf.*; echo 'setting=changed by hand' > /etc/lab.conf
"""


_RPM_FILES = """/var/lib/rpm /var/lib/dnf /var/lib/zypp /usr/share/lab /boot /etc/lab.conf /etc/dnf /etc/zypp"""
_KEEP_RPM = f"tar -cPf /root/first.tar $(ls -d {_RPM_FILES} 2>/dev/null)"
_RENEW_RPM = f"""rm -rf {_RPM_FILES} /etc/lab.conf.* /var/cache/dnf/*/packages /var/cache/zypp/packages
tar -xPf /root/first.tar
"""


class RealMachine:
    """A lab host for many tests: before a test that needs it so, the lab's packages are as they were after its boot."""

    def __init__(self, host: LabHost) -> None:
        of_apt = host.flavour == "apt"
        self.host = host
        self._subject = apt_subject(host) if of_apt else rpm_subject(host)
        self._renew = _NO_JOBS + (_RENEW if of_apt else _RENEW_RPM)
        host.sh(_KEEP if of_apt else _KEEP_RPM, root=True)
        self._is_fresh = True

    def look(self) -> Subject:
        """Give it to a test that changes nothing on it."""
        if not self._is_fresh:
            self.host.sh(self._renew, root=True)
            self._is_fresh = True
        return self._subject

    def take(self) -> Subject:
        """Give it to a test that changes something on it."""
        subject = self.look()
        self._is_fresh = False
        return subject


def _tell(host: LabHost, command: str) -> None:
    host.sh(command, root=True)


def lab_for(name: str) -> Iterator[Lab]:
    """A lab that is gone afterwards; the test is skipped where none can run, and fails in CI."""
    lab = Lab(name + os.environ.get("PYTEST_XDIST_WORKER", ""))
    reason = lab.reason_it_cannot_run()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"the lab can't run here: {reason}")
    if reason:
        pytest.skip(f"the lab can't run here: {reason}")
    lab.down()
    yield lab
    lab.down()


def patiently(check: Callable[[], bool], seconds: float = 240) -> None:
    """Wait until something is so on a real machine."""
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "it does not come to be so"
        time.sleep(0.2)


def fresh_machine(flavour: Flavour) -> Iterator[RealMachine]:
    """One machine for all tests of a module: to boot one for each would cost more than most of them do."""
    for lab in lab_for(f"pytest-{flavour}"):
        (host,) = lab.up(1, flavour)
        yield RealMachine(host)
