"""apt on real machines: what only a real one shows. The contract that all managers share is in tests/contract.

All but one test share a machine: each undoes what it prepared, and no two install the same package.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count

import pytest

from tasks.domain.errors import RepositoryError
from tasks.domain.model import PackageState, Update
from tasks.domain.protocols.clock import Deadline, SystemClock
from tasks.domain.protocols.package_manager import JobKind, Transaction
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus
from tasks.domain.states import Classification
from tasks.machines.managers.apt.manager import AptManager
from tests.contract.manager_subjects import Subject, apt_subject, patiently
from tests.lab.fleet import Lab, LabHost
from tests.lab.killing import hold, is_held, let_go

APT = AptManager()
NUMBERS = count(1)


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[LabHost]:
    """The machine that they share."""
    (made,) = lab.up(1)
    yield made
    made.drop()


@pytest.fixture(scope="module")
def subject(host: LabHost) -> Subject:
    return apt_subject(host)


def assess(subject: Subject, *, refresh: bool = False) -> PackageState:
    return APT.assess(subject.transport, refresh=refresh, deadline=Deadline.after(SystemClock(), 120))


def updates_of(subject: Subject) -> dict[str, Update]:
    return {update.id: update for update in assess(subject).updates}


def install(subject: Subject, *updates: Update, lock_wait: str = "300") -> JobStatus:
    script = APT.build_job_script(JobKind.INSTALL, [Transaction(0, updates, time.time() + 600, 10.0)])
    return subject.carry_out(
        f"job-{next(NUMBERS)}", replace(script, params={**script.params, "lock_wait_seconds": lock_wait})
    )


def ending(view: JobStatus) -> tuple[object, str]:
    (ended,) = [event for event in view.events if event["kind"] == "transaction_ended"]
    return ended["exit_code"], str(ended["error"])


COUNTER = """
for tool in apt-get apt-cache apt-config apt-mark; do
  printf '#!/bin/sh\\necho %s "$@" >> /root/started\\nexec /usr/bin/%s "$@"\\n' $tool $tool > /usr/local/sbin/$tool
  chmod 755 /usr/local/sbin/$tool
done"""


def test_an_assessment_starts_apt_seldom(host: LabHost, subject: Subject) -> None:
    host.sh(COUNTER, root=True)
    assess(subject, refresh=True)
    started = host.sh("cat /root/started; rm /usr/local/sbin/apt-*", root=True).splitlines()
    updates = [line for line in started if line.endswith(" update")]
    assert ["--print-uris" in line for line in updates] == [False, True]  # one reads, one only lists what it would read
    assert len(started) <= 7, started


def test_what_came_as_a_dependency_stays_one(host: LabHost, subject: Subject) -> None:
    """Else nothing that an update ever named would be cleaned up by autoremove again."""
    before = host.sh("apt-mark showauto")
    updates = updates_of(subject)
    assert "libexpat1" in before.split()
    assert ending(install(subject, updates["libexpat1"], updates["lab-conffile"]))[0] == 0
    assert host.sh("apt-mark showauto") == before
    assert host.package_versions("libexpat1") == {"libexpat1": updates["libexpat1"].available}
    assert host.sh("pgrep -c apt-get || true").strip() == "0"  # nothing is left of a job that still runs
    patiently(lambda: host.sh("pgrep -fc fleetpatch/jobs || true").strip() in {"0", "1"})  # pgrep's own shell


LOCAL_REPOSITORY = """set -e
cd /root; mkdir -p repo made
make() { # name version depends
  rm -rf made/*; mkdir made/DEBIAN
  printf 'Package: %s\\nVersion: %s\\nSource: lab-kernel\\nArchitecture: all\\n' "$1" "$2" > made/DEBIAN/control
  printf '%sMaintainer: lab <lab@localhost>\\nDescription: x\\n' "${3:+Depends: $3
}" >> made/DEBIAN/control
  dpkg-deb -Znone --root-owner-group --build made repo/$1_$2_all.deb > /dev/null
}
make lab-image-1 1.0; make lab-meta 1.0 lab-image-1; dpkg -i repo/*.deb > /dev/null
rm repo/*; apt-mark auto lab-image-1 > /dev/null
make lab-image-2 2.0; make lab-meta 2.0 lab-image-2
for deb in repo/*.deb; do
  dpkg-deb -f $deb; printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' \\
    ${deb#repo/} $(stat -c %s $deb) $(sha256sum < $deb | cut -d' ' -f1)
done > Packages; mv Packages repo/
chmod 755 /root; echo 'deb [trusted=yes] copy:/root/repo ./' > /etc/apt/sources.list.d/own.list; apt-get -qq update
"""
WITHOUT_IT = "rm -r /etc/apt/sources.list.d/own.list /root/repo /root/made; apt-get -qq update"
MOVED = "cd /root/repo; mkdir pool; mv *.deb pool/; sed -i 's,^Filename: ./,&pool/,' Packages"


def test_a_new_package_comes_along_with_what_needs_it(host: LabHost, subject: Subject) -> None:
    """As a kernel does: its metapackage is updated, the kernel itself is new each time."""
    host.sh(LOCAL_REPOSITORY, root=True)
    updates = updates_of(subject)
    meta, image = updates["lab-meta"], updates["lab-image-2"]
    host.sh(MOVED, root=True)
    _found_again_when_staging(host, subject, meta, image)
    _not_when_a_mask_names_it(host, subject, meta)

    assert (image.installed, image.available, image.group) == (None, "2.0", meta.group)
    simulation = APT.simulate(subject.transport, [meta], deadline=subject.soon)
    assert simulation.changes == {"lab-meta": "2.0", "lab-image-2": "2.0"}
    assert ending(install(subject, meta, image)) == (0, "")
    assert host.package_versions("lab-meta", "lab-image-2") == {"lab-meta": "2.0", "lab-image-2": "2.0"}
    assert {"lab-image-1", "lab-image-2"} <= set(host.sh("apt-mark showauto").split())
    assert "lab-meta" not in host.sh("apt-mark showauto").split()
    host.sh(WITHOUT_IT, root=True)


def _not_when_a_mask_names_it(host: LabHost, subject: Subject, meta: Update) -> None:
    """It was not needed when the run was planned, or it would have been left out then."""
    script = APT.build_job_script(
        JobKind.INSTALL, [Transaction(0, (meta,), time.time() + 600, 10.0)], excluded=["linux-*", "lab-im?ge-*"]
    )
    view = subject.carry_out("masked", script)
    (refused,) = [event for event in view.events if event["kind"] == "not_attempted"]
    assert (refused["why"], refused["detail"]) == ("excluded", "lab-image-2 (mask lab-im?ge-*)")
    assert host.package_versions("lab-meta", "lab-image-2") == {"lab-meta": "1.0"}


def _found_again_when_staging(host: LabHost, subject: Subject, *updates: Update) -> None:
    stage = APT.build_job_script(JobKind.STAGE, [Transaction(0, updates, time.time() + 600, 1.0)])
    view = subject.carry_out("stage", stage)
    assert "Failed to fetch" in view.log
    assert ending(view) == (0, "")
    assert host.package_versions("lab-meta") == {"lab-meta": "1.0"}


WAITING = """set -e
cd /root
for name in broken needs-broken; do
  mkdir -p $name/DEBIAN; printf 'Package: lab-%s\\nVersion: 2.0\\nArchitecture: all\\n' $name > $name/DEBIAN/control
  [ $name = broken ] || echo 'Depends: lab-broken (= 2.0)' >> $name/DEBIAN/control
  printf 'Maintainer: lab <lab@localhost>\\nDescription: x\\n' >> $name/DEBIAN/control
done
printf '#!/bin/sh\\nexit 3\\n' > broken/DEBIAN/postinst; chmod 755 broken/DEBIAN/postinst
mkdir local; dpkg-deb -Znone --root-owner-group --build broken local/ > /dev/null
dpkg-deb -Znone --root-owner-group --build needs-broken local/ > /dev/null
for deb in local/*.deb; do
  dpkg-deb -f $deb; printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' \\
    ${deb#local/} $(stat -c %s $deb) $(sha256sum < $deb | cut -d' ' -f1)
done > Packages; mv Packages local/
chmod 755 /root; echo 'deb [trusted=yes] copy:/root/local ./' > /etc/apt/sources.list.d/own.list; apt-get -qq update
"""
WITHOUT_THEM = (
    "dpkg --purge --force-all lab-needs-broken lab-broken; rm /etc/apt/sources.list.d/own.list; apt-get -qq update"
)


def test_what_waits_for_a_failed_package_says_for_which(host: LabHost, subject: Subject) -> None:
    host.sh(WAITING, root=True)
    other = updates_of(subject)["lab-reboot"]
    names = ("lab-broken", "lab-needs-broken")
    new = [replace(other, id=name, name=name, installed=None, available="2.0", group="") for name in names]
    code, error = ending(install(subject, *new, other))
    assert code != 0
    assert "lab-needs-broken is not set up because lab-broken failed" in error
    assert host.package_versions("lab-reboot") == {"lab-reboot": "2.0"}
    host.sh(WITHOUT_THEM, root=True)


def test_a_hold_is_never_broken(host: LabHost, subject: Subject) -> None:
    subject.hold("lab-sec")
    held = updates_of(subject)["lab-sec"]
    assert (held.held, held.classification) == (True, Classification.SECURITY)
    code, error = ending(install(subject, held))
    assert code != 0
    assert error.startswith("held: ")
    assert host.package_versions("lab-sec") == {"lab-sec": "1.0"}
    assert host.sh("apt-mark showhold").split() == ["lab-sec"]
    host.sh("apt-mark unhold lab-sec", root=True)


def test_a_pin_that_keeps_a_security_fix_away_is_told(host: LabHost, subject: Subject) -> None:
    pin = "Package: lab-sec\\nPin: version 1.0\\nPin-Priority: 1001\\n"
    host.sh(f"printf '{pin}' > /etc/apt/preferences.d/lab", root=True)
    update = updates_of(subject)["lab-sec"]
    assert (update.held, update.available, update.classification) == (False, "2.0", Classification.SECURITY)
    assert update.blocked.startswith("PINNED: apt ")
    host.sh("rm /etc/apt/preferences.d/lab", root=True)


def jobs_of(host: LabHost) -> set[str]:
    return {place.name for place in (host.root / "var/lib/fleetpatch/jobs").iterdir()}


def test_work_in_progress_is_told_by_name_and_waited_for_but_not_for_ever(host: LabHost, subject: Subject) -> None:
    subject.fix()
    wanted = updates_of(subject)["lab-failing"]
    hold([host])
    host.sh("systemd-run --quiet --unit=somebody apt-get -q -y install lab-slow", root=True)
    try:
        patiently(lambda: is_held(host))
        state = assess(subject)
        assert state.lock_holder.startswith("apt-get (pid ")
        assert state.problems == ()
        code, error = ending(install(subject, wanted, lock_wait="2"))
        assert code != 0
        assert error.startswith("lock: ")
        assert host.package_versions("lab-failing") == {"lab-failing": "1.0"}
        known = jobs_of(host)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(install, subject, wanted)
            patiently(lambda: jobs_of(host) > known)
            let_go([host])
            assert ending(waiting.result(timeout=300)) == (0, "")
    finally:
        let_go([host])
    assert host.package_versions("lab-failing", "lab-slow") == {"lab-failing": "2.0", "lab-slow": "2.0"}


def test_lists_that_others_read_are_waited_for(host: LabHost, subject: Subject) -> None:
    (host.root / "root/reader").write_text(
        "use Fcntl; open(F, '>', '/var/lib/apt/lists/lock') or die;\n"
        "my $lock = pack('s s x4 q q i x4', F_WRLCK, 0, 0, 0, 0); fcntl(F, F_SETLK, $lock) or die;\n"
        "for (1 .. 1200) { last if -e '/root/enough'; select(undef, undef, undef, 0.1); }\n"
    )
    (host.root / "usr/local/bin/apt-get").write_text(  # notes each try to read the lists
        '#!/bin/sh\ncase " $* " in *" update "*) echo >>/root/tries ;; esac\nexec /usr/bin/apt-get "$@"\n'
    )
    (host.root / "usr/local/bin/apt-get").chmod(0o755)
    host.sh("systemd-run --quiet perl /root/reader", root=True)
    patiently(lambda: "POSIX" in host.sh("cat /proc/locks", root=True))
    assert assess(subject).lock_holder.startswith("perl (pid ")
    with ThreadPoolExecutor(1) as pool:
        refreshed = pool.submit(assess, subject, refresh=True)
        patiently(lambda: int(host.sh("cat /root/tries 2>/dev/null | wc -l", root=True)) >= 2)
        assert not refreshed.done()
        host.sh("touch /root/enough", root=True)
        assert refreshed.result(timeout=300).repository_problems == ()
    (host.root / "usr/local/bin/apt-get").unlink()


def test_a_power_cut_is_seen_and_mended(hosts: Callable[[int], list[LabHost]]) -> None:
    """On a machine of its own: to others it would be away."""
    (host,) = hosts(1)
    subject = apt_subject(host)
    subject.quicken(60)
    updates = updates_of(subject)
    wanted = [updates["lab-slow"], updates["lab-plain"], updates["lab-conffile"]]
    script = APT.build_job_script(JobKind.INSTALL, [Transaction(0, tuple(wanted), time.time() + 600, 10.0)])
    subject.transport.start_job(Job("cut", script), deadline=subject.soon)
    patiently(lambda: "half-configured lab-slow:all 2.0" in host.dpkg_log())
    boot = host.boot_id()
    host.crash()
    host.wait_reboot(boot)
    subject = replace(subject, transport=apt_subject(host).transport)
    assert subject.follow("cut").phase is JobPhase.LOST

    state = assess(subject)
    assert state.problems
    assert state.repairable
    subject.quicken(1)
    repair = APT.build_job_script(JobKind.REPAIR, [Transaction(0, (), time.time() + 600, 10.0)])
    assert ending(subject.carry_out("mend", repair)) == (0, "")
    assert assess(subject).problems == ()
    assert host.package_versions("lab-slow") == {"lab-slow": "2.0"}
    assert host.sh("dpkg --audit", root=True).strip() == ""


def test_one_dead_repository_is_a_warning_and_no_live_one_an_error(host: LabHost, subject: Subject) -> None:
    host.sh(
        "cp /etc/apt/sources.list /root/; echo 'deb http://127.0.0.1:9 bookworm main' >> /etc/apt/sources.list",
        root=True,
    )
    state = assess(subject, refresh=True)
    assert any("127.0.0.1" in problem.message for problem in state.repository_problems)
    assert "lab-plain" in {update.id for update in state.updates}
    host.sh("echo 'deb http://127.0.0.1:9 bookworm main' > /etc/apt/sources.list", root=True)
    with pytest.raises(RepositoryError, match="Could not connect"):
        assess(subject, refresh=True)
    host.sh(": > /etc/apt/sources.list", root=True)
    with pytest.raises(RepositoryError, match="no package source"):
        assess(subject, refresh=True)
    host.sh("mv /root/sources.list /etc/apt/; apt-get -qq update", root=True)


def test_a_download_that_fails_is_told_as_one(host: LabHost, subject: Subject) -> None:
    update = updates_of(subject)["lab-plain"]
    host.sh("echo 'Acquire::http::Proxy \"http://127.0.0.1:9\";' > /etc/apt/apt.conf.d/99proxy", root=True)
    code, error = ending(install(subject, update))
    assert code != 0
    assert error.startswith("fetch: ")
    assert host.package_versions("lab-plain") == {"lab-plain": "1.0"}
    host.sh("rm /etc/apt/apt.conf.d/99proxy", root=True)


def test_a_full_disk_is_told_before_anything_is_changed(host: LabHost, subject: Subject) -> None:
    updates = updates_of(subject)
    host.sh(
        "mount -t tmpfs -o size=64k tmpfs /var/cache/apt/archives; mkdir /var/cache/apt/archives/partial", root=True
    )
    code, error = ending(install(subject, *(update for update in updates.values() if update.group == "perl")))
    assert code != 0
    assert error.startswith("space: ")
    assert host.package_versions("perl-base") == {"perl-base": updates["perl-base"].installed}
    host.sh("umount /var/cache/apt/archives", root=True)


def test_a_version_that_is_gone_is_told(subject: Subject) -> None:
    gone = replace(updates_of(subject)["lab-plain"], available="1.9")
    simulation = APT.simulate(subject.transport, [gone], deadline=subject.soon)
    assert "do not have lab-plain" in simulation.refused["lab-plain"]
    code, error = ending(install(subject, gone))
    assert code != 0
    assert error.startswith("gone: ")


def test_unmet_dependencies_are_seen_and_mended_without_removing_anything(host: LabHost, subject: Subject) -> None:
    host.sh("dpkg --force-depends --remove lab-dep-b", root=True)
    state = assess(subject)
    assert any(problem.startswith("lab-dep-a has unmet dependencies") for problem in state.problems)
    assert state.repairable
    repair = APT.build_job_script(JobKind.REPAIR, [Transaction(0, (), time.time() + 600, 10.0)])
    code, error = ending(subject.carry_out("mend", repair))
    whole = host.package_versions("lab-dep-a", "lab-dep-b", "lab-plain")
    assert "lab-plain" in whole
    assert "lab-dep-a" in whole
    assert (code, error) == (0, "")
    assert assess(subject).problems == ()
