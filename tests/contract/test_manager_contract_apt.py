"""The contract of package managers over apt, on one of the lab's real machines."""

import pytest

from tasks.domain.protocols.package_manager import JobKind
from tasks.domain.protocols.transport import Job, JobPhase
from tests.contract.machine_contract import *  # noqa: F403  # pytest finds the tests here
from tests.contract.manager_contract import of_kind, pending, transaction, versions
from tests.contract.manager_subjects import RealMachine, patiently

FLAVOUR = "apt"
pytestmark = pytest.mark.lab


def test_a_package_that_a_power_cut_left_half_unpacked_is_installed_anew(machine: RealMachine) -> None:
    host, subject = machine.host, machine.take()
    postrm = "/var/lib/dpkg/info/lab-plain.postrm"  # dpkg starts it when it has unpacked the new version's files
    host.sh(f"printf '#!/bin/sh\\nsleep 300\\n' >{postrm}; chmod 755 {postrm}", root=True)
    work = [transaction(subject, 0, pending(subject)["lab-plain"])]
    script = subject.manager.build_job_script(JobKind.INSTALL, work)
    subject.transport.start_job(Job("cut-off", script), deadline=subject.soon)
    patiently(lambda: "reinstreq" in host.sh("dpkg-query -W -f '${Status}' lab-plain", root=True))
    before = host.boot_id()
    host.crash()
    host.wait_reboot(before)
    host.sh(f"rm {postrm}", root=True)
    assert subject.follow("cut-off").phase is JobPhase.LOST
    state = subject.manager.assess(subject.transport, refresh=False, deadline=subject.soon)
    assert (state.interrupted, [problem for problem in state.problems if "installed anew" in problem]) == (
        True,
        ["lab-plain 1.0 is damaged and must be installed anew"],
    )

    mended = subject.carry_out("repair-1", subject.manager.build_job_script(JobKind.REPAIR, [transaction(subject, 0)]))
    assert [record["exit_code"] for record in of_kind(mended, "transaction_ended")] == [0], mended.log
    state = subject.manager.assess(subject.transport, refresh=False, deadline=subject.soon)
    assert state.problems == ()
    assert versions(subject, "lab-plain") == {"lab-plain": "2.0"}


def test_a_package_whose_files_a_power_cut_moved_back_is_installed_anew(machine: RealMachine) -> None:
    """dpkg's database and the files of a package may be on two file systems: the kernel's are in /boot."""
    host, subject = machine.host, machine.take()
    place = host.sh("for f in $(dpkg -L lab-plain); do [ ! -f $f ] || echo $f; done").split()[0]
    host.sh(
        f"cd /var/tmp; apt-get -q download lab-plain; apt-mark auto lab-plain; dpkg --unpack lab-plain_2.0*.deb; "
        f"rm lab-plain_*; mv {place} {place}.dpkg-new",
        root=True,
    )
    assert subject.manager.assess(subject.transport, refresh=False, deadline=subject.soon).repairable

    mended = subject.carry_out("repair-1", subject.manager.build_job_script(JobKind.REPAIR, [transaction(subject, 0)]))
    assert [record["exit_code"] for record in of_kind(mended, "transaction_ended")] == [0], mended.log
    assert host.sh(f"ls {place}*").split() == [place]
    assert host.sh("dpkg --verify lab-plain; apt-mark showauto lab-plain", root=True).split() == ["lab-plain"]
    assert subject.manager.assess(subject.transport, refresh=False, deadline=subject.soon).problems == ()
