"""What every PackageManager does, whatever the system. Each family's test module runs it over its own subjects.

Such a module imports all of it, and has the fixtures ``subject`` (a machine of which nothing was changed yet) and
``looked_at`` (the same, for tests that change nothing on it).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tasks.domain.model import Update
from tasks.domain.protocols.package_manager import JobKind, PackageManager, Transaction
from tasks.domain.protocols.transport import Job, JobPhase, JobStatus, Script, ScriptRecord
from tasks.domain.states import Classification, YesNoUnknown
from tests.contract.manager_subjects import Subject, patiently
from tests.lab.fleet import LabHost


def pending(subject: Subject) -> dict[str, Update]:
    state = subject.manager.assess(subject.transport, refresh=False, deadline=subject.soon)
    return {update.id: update for update in state.updates}


def offered(subject: Subject) -> Mapping[str, Update]:
    """What is pending of the lab's packages, which nothing has changed yet: tests that share the machine ask once."""
    if not subject.offered:
        subject.offered.update(pending(subject))
    return subject.offered


def versions(subject: Subject, *ids: str) -> Mapping[str, str]:
    """What is installed of these, without the releases that the lab's RPM packages have."""
    known = [Update(name, name, "noarch", "1.0", "2.0", Classification.OTHER) for name in ids]
    found = subject.manager.read_installed_versions(subject.transport, known, deadline=subject.soon)
    return {name: version.removesuffix(subject.release) for name, version in found.items()}


def biggest(updates: Mapping[str, Update]) -> Update:
    return max(updates.values(), key=lambda update: (update.size_bytes or 0, update.id == "lab-big"))


def transaction(subject: Subject, number: int, *updates: Update, seconds: float = 600) -> Transaction:
    return Transaction(number, updates, subject.clock.now().timestamp() + seconds, 10.0)


def install(subject: Subject, *parts: Sequence[Update], job_id: str = "job-1", **options: object) -> JobStatus:
    transactions = [transaction(subject, number, *part) for number, part in enumerate(parts)]
    script = subject.manager.build_job_script(JobKind.INSTALL, transactions, **options)  # type: ignore[arg-type]
    return subject.carry_out(job_id, script)


def of_kind(view: JobStatus, *kinds: str) -> list[ScriptRecord]:
    return [event for event in view.events if event["kind"] in kinds]


def number(record: ScriptRecord, key: str) -> float:
    value = record[key]
    assert isinstance(value, int | float)
    assert not isinstance(value, bool)
    return value


def test_it_is_a_package_manager(looked_at: Subject) -> None:
    seam: PackageManager = looked_at.manager  # mypy checks the signatures
    assert seam.name


class TestAssess:
    def test_all_that_is_pending_is_told_with_its_class(self, looked_at: Subject) -> None:
        updates = pending(looked_at)
        assert {"lab-plain", "lab-slow", "lab-failing", looked_at.remover, "lab-dep-a", "lab-dep-b"} <= set(updates)
        assert updates["lab-plain"].classification is Classification.OTHER
        assert updates["lab-sec"].classification is Classification.SECURITY
        assert (updates["lab-sec"].installed, updates["lab-sec"].available) == (looked_at.v("1.0"), looked_at.v("2.1"))
        assert all(update.size_bytes for update in updates.values())
        assert all(update.origins for update in updates.values())
        before = versions(looked_at, "lab-plain", "lab-sec")
        assert pending(looked_at) == updates, "asking twice says the same"
        assert versions(looked_at, "lab-plain", "lab-sec") == before == {"lab-plain": "1.0", "lab-sec": "1.0"}

    def test_a_healthy_machine_has_no_problems_and_needs_no_reboot(self, looked_at: Subject) -> None:
        state = looked_at.manager.assess(looked_at.transport, refresh=True, deadline=looked_at.soon)
        assert (state.problems, state.lock_holder, state.repository_problems) == ((), "", ())
        assert state.reboot.answer is YesNoUnknown.NO
        assert state.manager == looked_at.manager.name

    def test_what_is_held_is_told_and_marked(self, subject: Subject) -> None:
        subject.hold("lab-plain")
        state = subject.manager.assess(subject.transport, refresh=False, deadline=subject.soon)
        held = [update.id for update in state.updates if update.held]
        assert held == ["lab-plain"]
        assert state.held == ("lab-plain",)


class TestSimulate:
    def test_it_tells_what_comes_along_and_changes_nothing(self, looked_at: Subject) -> None:
        updates = offered(looked_at)
        simulation = looked_at.manager.simulate(looked_at.transport, [updates["lab-dep-a"]], deadline=looked_at.soon)
        assert simulation.changes == dict.fromkeys(("lab-dep-a", "lab-dep-b"), looked_at.v("2.0"))
        assert not simulation.refusal
        assert simulation.download_bytes
        assert versions(looked_at, "lab-dep-a", "lab-dep-b") == {"lab-dep-a": "1.0", "lab-dep-b": "1.0"}

    def test_it_tells_removals(self, looked_at: Subject) -> None:
        updates = offered(looked_at)
        simulation = looked_at.manager.simulate(
            looked_at.transport, [updates[looked_at.remover]], deadline=looked_at.soon
        )
        assert simulation.removals == (looked_at.removed,)

    def test_what_can_not_go_together_is_told_of_the_one_to_blame(self, looked_at: Subject) -> None:
        updates = offered(looked_at)
        names = ("lab-sec", "lab-removes", "lab-conffile", "lab-plain")
        wanted = [replace(updates[name], group="") for name in names]  # the lab's RPM packages have one source
        simulation = looked_at.manager.simulate(looked_at.transport, wanted, deadline=looked_at.soon)
        assert "lab-removes" in simulation.named
        assert "lab-plain" in simulation.refusal
        assert (simulation.changes, simulation.removals, simulation.refused) == ({}, (), {})

    def test_it_names_what_would_not_leave_a_package_as_it_is(self, looked_at: Subject) -> None:
        updates = offered(looked_at)
        for culprit, kept in ((looked_at.remover, looked_at.removed), ("lab-dep-a", "lab-dep-b")):
            wanted = [updates[culprit], updates["lab-sec"]]
            simulation = looked_at.manager.simulate(looked_at.transport, wanted, keep=[kept], deadline=looked_at.soon)
            assert kept in simulation.refusal
            assert simulation.named == {culprit}

    def test_nothing_changes_nothing(self, looked_at: Subject) -> None:
        simulation = looked_at.manager.simulate(looked_at.transport, [], deadline=looked_at.soon)
        assert (dict(simulation.changes), simulation.removals, simulation.refusal) == ({}, (), "")


class TestInstall:
    def test_records_tell_the_story_in_order(self, subject: Subject) -> None:
        updates = offered(subject)
        view = install(subject, [updates["lab-plain"], updates["lab-conffile"]], [updates["lab-reboot"]])
        assert view.phase is JobPhase.FINISHED
        assert view.exit_code == 0
        marks = of_kind(view, "download_started", "transaction_started", "transaction_ended", "finished")
        assert [(mark["kind"], mark.get("number")) for mark in marks] == [
            ("download_started", 0),  # what is installed is downloaded first
            ("transaction_started", 0),
            ("transaction_ended", 0),
            ("download_started", 1),
            ("transaction_started", 1),
            ("transaction_ended", 1),
            ("finished", None),
        ]
        times = [number(mark, "at") for mark in marks]
        assert times == sorted(times)
        assert abs(times[-1] - subject.clock.now().timestamp()) < 60
        assert [mark["exit_code"] for mark in of_kind(view, "transaction_ended")] == [0, 0]
        assert [mark["error"] for mark in of_kind(view, "transaction_ended")] == ["", ""]
        assert view.log
        kept = [(record["path"], record["kept_as"]) for record in of_kind(view, "configuration_kept")]
        assert kept == [("/etc/lab.conf", subject.kept_as)]
        now = versions(subject, "lab-plain", "lab-conffile", "lab-reboot", "lab-sec")
        assert now == {"lab-plain": "2.0", "lab-conffile": "2.0", "lab-reboot": "2.0", "lab-sec": "1.0"}
        reboot = subject.manager.assess(subject.transport, refresh=False, deadline=subject.soon).reboot
        assert reboot.answer is YesNoUnknown.YES
        assert any(subject.reboot_reason in reason for reason in reboot.reasons), reboot

    def test_a_failing_package_fails_alone(self, subject: Subject) -> None:
        updates = offered(subject)
        first = [updates[name] for name in ("lab-conffile", "lab-failing", "lab-plain")]
        view = install(subject, first, [updates["lab-sec"]])
        failed, fine = of_kind(view, "transaction_ended")
        assert failed["exit_code"] != 0
        assert str(failed["error"]).startswith("maintainer-script: ")
        assert "cannot migrate data" in str(failed["error"])
        assert fine["exit_code"] == 0
        now = dict(versions(subject, "lab-conffile", "lab-failing", "lab-plain", "lab-sec"))
        assert now.pop("lab-failing", "") == ("" if subject.leaves_half_done else "1.0")
        assert now == {"lab-conffile": "2.0", "lab-plain": "2.0", "lab-sec": "2.1"}
        assert view.log.count("cannot migrate data") == 1, "what failed was run again"
        patiently(lambda: obstacles(subject) == (["packages"] if subject.leaves_half_done else []))

    def test_what_must_not_begin_does_not_and_says_why(self, subject: Subject) -> None:
        updates = offered(subject)
        subject.remove("lab-conffile")  # meanwhile
        transactions = [
            transaction(subject, 0, updates["lab-plain"], seconds=-5),
            transaction(subject, 1, updates[subject.remover]),
            transaction(subject, 2, updates["lab-dep-a"]),
            transaction(subject, 3, updates["lab-conffile"], updates["lab-reboot"]),
            transaction(subject, 4, updates["lab-sec"]),
        ]
        view = subject.carry_out("job-1", subject.manager.build_job_script(JobKind.INSTALL, transactions))
        late, removes, drags, anew = of_kind(view, "not_attempted")
        assert [(record["number"], record["why"]) for record in (late, removes, drags, anew)] == [
            (0, "window"),
            (1, "removals"),
            (2, "unexpected"),
            (3, "anew"),
        ]
        assert number(late, "at") > number(late, "latest_start")
        assert removes["detail"] == subject.removed
        assert drags["detail"] == f"lab-dep-b {subject.v('1.0')} -> {subject.v('2.0')}"
        assert anew["detail"] == "lab-conffile"
        assert [record["number"] for record in of_kind(view, "transaction_started")] == [4]
        names = ("lab-plain", subject.removed, "lab-dep-a", "lab-reboot")
        assert versions(subject, *names, "lab-conffile", "lab-sec") == {**dict.fromkeys(names, "1.0"), "lab-sec": "2.1"}

    def test_what_is_allowed_comes_along_or_is_removed(self, subject: Subject) -> None:
        updates = offered(subject)
        parts = [[updates[name]] for name in ("lab-dep-a", "lab-dep-b", subject.remover)]
        install(subject, *parts, allowed=[updates["lab-dep-b"]], allow_removals=True)
        names = ("lab-dep-a", "lab-dep-b", subject.remover)
        assert versions(subject, *names, subject.removed) == dict.fromkeys(names, "2.0")

    def test_progress_is_told_and_a_stop_takes_effect_between_transactions(self, subject: Subject) -> None:
        subject.quicken(15)
        updates = offered(subject)
        transactions = [transaction(subject, 0, updates["lab-slow"]), transaction(subject, 1, updates["lab-plain"])]
        script = subject.manager.build_job_script(JobKind.INSTALL, transactions)
        view = subject.transport.start_job(Job("job-1", script), deadline=subject.soon)
        while not (of_kind(view, "transaction_started") and of_kind(view, subject.past_stop)):
            assert view.phase is JobPhase.RUNNING
            subject.clock.sleep(0.5)
            view = subject.transport.poll_job("job-1", deadline=subject.soon)
        subject.stop("job-1")
        view = subject.follow("job-1")
        assert [record["exit_code"] for record in of_kind(view, "transaction_ended")] == [0]
        assert [(record["number"], record["why"]) for record in of_kind(view, "not_attempted")] == [(1, "stop")]
        assert versions(subject, "lab-slow", "lab-plain") == {"lab-slow": "2.0", "lab-plain": "1.0"}
        progress = of_kind(view, "progress")
        assert all(0 <= number(record, "percent") <= 100 and record["number"] == 0 for record in progress)
        assert any(record["update"] == "lab-slow" and record["action"] for record in progress)


class TestDownload:
    """Nothing is unpacked once the latest start has passed, however long a download takes."""

    def test_a_download_that_is_not_over_in_time_is_ended_and_nothing_is_unpacked(self, subject: Subject) -> None:
        updates = pending(subject)
        big = biggest(updates)
        old = versions(subject, big.id)[big.id]
        subject.throttle(20)
        transactions = [transaction(subject, 0, big, seconds=6), transaction(subject, 1, updates["lab-plain"])]
        began = subject.clock.now()
        view = subject.carry_out(
            "job-1", subject.manager.build_job_script(JobKind.INSTALL, transactions, allowed=[*updates.values()])
        )
        (late,) = of_kind(view, "not_attempted")
        assert (late["number"], late["why"]) == (0, "download")
        assert 0 <= number(late, "at") - number(late, "latest_start") < 30
        assert (subject.clock.now() - began).total_seconds() < 60
        assert [mark["number"] for mark in of_kind(view, "transaction_started")] == [1], "the lock is free again"
        assert versions(subject, big.id, "lab-plain") == {big.id: old, "lab-plain": "2.0"}
        subject.throttle(0)
        again = install(subject, [big], job_id="job-2", allowed=[*updates.values()])
        assert [record["exit_code"] for record in of_kind(again, "transaction_ended")] == [0]
        assert versions(subject, big.id) == {big.id: big.available.removesuffix(subject.release)}

    def test_a_stop_ends_a_download(self, subject: Subject) -> None:
        updates = pending(subject)
        big = biggest(updates)
        old = versions(subject, big.id)[big.id]
        subject.throttle(20)
        script = subject.manager.build_job_script(
            JobKind.INSTALL, [transaction(subject, 0, big)], allowed=[*updates.values()]
        )
        view = subject.transport.start_job(Job("job-1", script), deadline=subject.soon)
        while not of_kind(view, "download_started"):
            subject.clock.sleep(0.5)
            view = subject.transport.poll_job("job-1", deadline=subject.soon)
        subject.stop("job-1")
        view = subject.follow("job-1", seconds=30)
        assert [record["why"] for record in of_kind(view, "not_attempted")] == ["stop"]
        assert not of_kind(view, "transaction_started")
        assert versions(subject, big.id) == {big.id: old}

    def test_downloading_ahead_is_ended_in_time(self, subject: Subject) -> None:
        updates = pending(subject)
        big = biggest(updates)
        subject.throttle(20)
        now = subject.clock.now().timestamp()
        script = subject.manager.build_job_script(JobKind.STAGE, [Transaction(0, (big,), now + 600, 10.0, now + 5)])
        view = subject.carry_out("stage-1", script)
        (late,) = of_kind(view, "not_attempted")
        assert late["why"] == "download"
        assert number(late, "at") - now < 60
        assert not of_kind(view, "transaction_ended")


class TestStage:
    def test_everything_is_downloaded_and_nothing_changes(self, subject: Subject) -> None:
        updates = offered(subject)
        wanted = [updates["lab-plain"], updates["lab-sec"]]
        view = subject.carry_out(
            "stage-1", subject.manager.build_job_script(JobKind.STAGE, [transaction(subject, 0, *wanted)])
        )
        assert [record["exit_code"] for record in of_kind(view, "transaction_ended")] == [0]
        assert versions(subject, "lab-plain", "lab-sec") == {"lab-plain": "1.0", "lab-sec": "1.0"}
        simulation = subject.manager.simulate(subject.transport, wanted, deadline=subject.soon)
        assert simulation.download_bytes == 0


class TestRepair:
    def test_what_was_left_half_done_is_finished(self, subject: Subject) -> None:
        if not subject.leaves_half_done:
            return  # a package that fails is left as it was
        install(subject, [offered(subject)["lab-failing"]])
        state = subject.manager.assess(subject.transport, refresh=False, deadline=subject.soon)
        assert state.repairable
        assert any("lab-failing" in problem for problem in state.problems)
        assert "lab-failing" not in {update.id for update in state.updates}

        repair = subject.manager.build_job_script(JobKind.REPAIR, [transaction(subject, 0)])
        in_vain = subject.carry_out("repair-1", repair)
        assert [record["exit_code"] != 0 for record in of_kind(in_vain, "transaction_ended")] == [True]

        subject.fix()
        mended = subject.carry_out("repair-2", repair)
        assert [record["exit_code"] for record in of_kind(mended, "transaction_ended")] == [0]
        state = subject.manager.assess(subject.transport, refresh=False, deadline=subject.soon)
        assert state.problems == ()
        assert versions(subject, "lab-failing") == {"lab-failing": "2.0"}


def obstacles(subject: Subject) -> list[object]:
    """What keeps the machine from being rebooted now."""
    locks = {"locks": subject.manager.lock_files}
    script = Script("reboot_obstacles", locks, package=subject.manager.script_package)
    boot, *others = subject.transport.run_script(script, deadline=subject.soon).records
    assert boot["kind"] == "boot"
    assert all(record["kind"] == "obstacle" and record["why"] for record in others)
    return [record["about"] for record in others]


def test_a_machine_is_not_to_be_rebooted_while_packages_are_changed(subject: Subject) -> None:
    """Nor while they are half done: `test_a_failing_package_fails_alone`."""
    assert obstacles(subject) == []
    subject.quicken(10)
    script = subject.manager.build_job_script(JobKind.INSTALL, [transaction(subject, 0, offered(subject)["lab-slow"])])
    subject.transport.start_job(Job("slow", script), deadline=subject.soon)
    while "lock" not in obstacles(subject):
        assert subject.transport.poll_job("slow", deadline=subject.soon).phase is JobPhase.RUNNING
        subject.clock.sleep(0.3)
    subject.follow("slow")
    patiently(lambda: obstacles(subject) == [])  # what keeps the machine up for a job ends within seconds of it


def test_the_same_work_is_the_same_script(looked_at: Subject) -> None:
    updates = list(offered(looked_at).values())
    work = [Transaction(0, tuple(updates), 1000.5, 10.0)]
    assert looked_at.manager.build_job_script(
        JobKind.INSTALL, work, allowed=updates
    ) == looked_at.manager.build_job_script(JobKind.INSTALL, work, allowed=updates)


def a_power_cut_in_a_transaction_is_repaired(host: LabHost, subject: Subject) -> None:
    """For families whose packages are not left half done by a failure: only a transaction that is cut off does that."""
    updates = offered(subject)
    subject.quicken(300)
    script = subject.manager.build_job_script(
        JobKind.INSTALL, [transaction(subject, 0, updates["lab-slow"], updates["lab-plain"])]
    )
    subject.transport.start_job(Job("cut-off", script), deadline=subject.soon)
    patiently(lambda: len(host.sh("rpm -q lab-slow").split()) > 1)  # the old version is still in the database
    before = host.boot_id()
    host.crash()
    host.wait_reboot(before)
    assert subject.follow("cut-off").phase is JobPhase.LOST
    assert obstacles(subject) == ["packages"]
    state = subject.manager.assess(subject.transport, refresh=False, deadline=subject.soon)
    assert state.repairable
    assert state.interrupted
    assert any("lab-slow" in problem for problem in state.problems)
    host.sh("rm /usr/share/lab/lab-slow", root=True)  # as if it had not been written

    subject.quicken(0)
    repair = subject.manager.build_job_script(JobKind.REPAIR, [transaction(subject, 0)])
    mended = subject.carry_out("repair-1", repair)
    assert [record["exit_code"] for record in of_kind(mended, "transaction_ended")] == [0], mended.log
    state = subject.manager.assess(subject.transport, refresh=False, deadline=subject.soon)
    assert state.problems == ()
    patiently(lambda: obstacles(subject) == [])
    assert host.sh("rpm -q lab-slow").split() == ["lab-slow-2.0-1.noarch"]
    assert host.sh("rpm -V lab-slow lab-plain") == ""
    left = [update for update in pending(subject).values() if update.id in {"lab-plain", "lab-slow"}]
    view = install(subject, left, job_id="job-2") if left else mended
    assert [record["exit_code"] for record in of_kind(view, "transaction_ended")] == [0]
    assert versions(subject, "lab-slow", "lab-plain") == {"lab-slow": "2.0", "lab-plain": "2.0"}
