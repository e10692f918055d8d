"""What dpkg would refuse is known before, on a real Debian, with the cause; what stops nothing is a remark."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.domain.errors import ManagerError
from tasks.domain.model import PackageState
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.package_manager import JobKind, Transaction
from tasks.domain.states import FindingLevel, OperationState, UpdateState
from tasks.machines.managers.apt.manager import AptManager
from tasks.machines.managers.tool_errors import complete_error
from tests.contract.manager_subjects import apt_subject
from tests.lab.engine import Fleet, outcome_of, result_of
from tests.lab.fleet import LabHost

APT = AptManager()
INFO = "/var/lib/dpkg/info"
OVERRIDE = "echo 'root casegrp 0755 /opt/case' >>/var/lib/dpkg/statoverride"
HOOK = 'DPkg::Pre-Invoke { "mount -o remount,bind,rw /usr"; }; DPkg::Post-Invoke { "mount -o remount,bind,ro /usr"; };'


@contextmanager
def damaged(host: LabHost, file: str, command: str) -> Iterator[None]:
    """Damage a file of the host for the time of the block."""
    host.sh(f"cp -a {file} /root/kept; {command}", root=True)
    yield
    host.sh(f"mv -f /root/kept {file}", root=True)


def test_what_dpkg_would_refuse_is_known_before_the_run_begins(host: LabHost, tmp_path: Path) -> None:
    subject, fleet = apt_subject(host), Fleet([host], tmp_path)
    host.sh("apt-get -qq update", root=True)

    def assess() -> PackageState:
        return APT.assess(subject.transport, refresh=False, deadline=Deadline.after(SystemClock(), 120))

    # one that stops nothing: the machine is patched, and the remark is told once
    host.sh(f"rm {INFO}/lab-plain.md5sums", root=True)
    outcome = outcome_of(fleet.patch("lab-sec"), host)
    assert outcome.state is OperationState.SUCCEEDED
    assert result_of(outcome, "lab-sec").state is UpdateState.INSTALLED
    (remark,) = [finding for finding in outcome.findings if "md5sums" in finding.message]
    assert (remark.level, "of lab-plain" in remark.message) == (FindingLevel.REMARK, True)

    gone = "/etc/apt/apt.conf.d/99gone"
    host.sh(f"echo 'APT::Default-Release \"bullseye\";' >{gone}", root=True)
    with pytest.raises(ManagerError, match="'bullseye' is invalid for APT::Default-Release"):
        assess()
    host.sh(f"rm {gone}", root=True)

    updates = {update.id: update for update in assess().updates}
    with damaged(host, "/var/lib/dpkg/statoverride", OVERRIDE):
        state = assess()
        assert "statoverride of /opt/case has the group casegrp, which does not exist" in state.problems[0]
        assert (len(state.problems), state.repairable) == (1, False)
        # a group that goes during the run: the reason has dpkg's words
        transaction = Transaction(0, (updates["lab-plain"],), time.time() + 600, 10.0)
        ended = subject.carry_out("gone", APT.build_job_script(JobKind.INSTALL, [transaction]))
        (told,) = [event for event in ended.events if event["kind"] == "transaction_ended"]
        error = complete_error(str(told["error"]), str(told.get("words") or ""))
        assert "unknown system group 'casegrp' in statoverride file" in error
    with damaged(host, f"{INFO}/lab-plain.list", f"truncate -s -1 {INFO}/lab-plain.list"):
        (problem,) = assess().problems
        assert problem.endswith("files list file for package 'lab-plain' is missing final newline")
    with damaged(host, "/var/lib/dpkg/status", "sed -i '40s/^/x y z/' /var/lib/dpkg/status"):
        with pytest.raises(ManagerError, match="dpkg can't read its database: dpkg-query: error: parsing file"):
            assess()
        host.sh(": >/var/lib/dpkg/status", root=True)
        with pytest.raises(ManagerError, match="its database has no package"):
            assess()
    assert assess().problems == ()

    # a read-only /usr is refused before anything is half installed, unless apt's own hooks mount it writable
    host.sh("mount --bind /usr /usr; mount -o remount,bind,ro /usr", root=True)
    outcome = outcome_of(fleet.patch("lab-plain"), host)
    assert (outcome.state, outcome.reason) == (OperationState.FAILED, "pre-check disk: /usr is mounted read-only")
    assert host.query_dpkg("-W", "-f", "${db:Status-Abbrev}${Version}", "lab-plain") == "ii 1.0"
    host.sh(f"echo '{HOOK}' >/etc/apt/apt.conf.d/95writable", root=True)
    outcome = outcome_of(fleet.patch("lab-plain"), host)
    assert result_of(outcome, "lab-plain").state is UpdateState.INSTALLED
    assert host.sh("findmnt -n -o OPTIONS /usr", root=True).startswith("ro")
