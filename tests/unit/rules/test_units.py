"""Which units of systemd are told when they are not active any more."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import Services
from tasks.domain.services import ServiceRun
from tasks.domain.states import FindingLevel
from tasks.machines.managers.running_programs import parse_units
from tasks.rules.machine_checks.services import check_services
from tasks.rules.machine_checks.units import (
    UnitFault,
    UnitStatus,
    check_runs,
    check_units,
    count_ends,
    find_loops,
    find_missing_units,
    find_restarted_services,
    find_starting_units,
    judge_unit,
)
from tasks.steps.machine.health import build_unit_status

TARGET = ("multi-user.target",)
NOW = Services(active_units=TARGET)

# systemd 252 of Debian 12, after a boot: a mount that failed, and the service behind it
SHOWN = """Type=simple
Id=lab-app.service
WantedBy=multi-user.target
LoadState=loaded
ActiveState=inactive
SubState=dead
Job=
ActiveEnterTimestampMonotonic=0
ConditionResult=no
ConditionTimestampMonotonic=0

Id=srv-data.mount
RequiredBy=lab-app.service
WantedBy=multi-user.target
LoadState=loaded
ActiveState=failed
SubState=failed
ActiveEnterTimestampMonotonic=0
ConditionResult=yes
ConditionTimestampMonotonic=2461522

Id=gone.service
LoadState=not-found
ActiveState=inactive
SubState=dead
"""


def test_what_systemctl_shows_is_understood() -> None:
    app, mount, gone = (build_unit_status(block["Id"], block) for block in parse_units(SHOWN))
    assert app == UnitStatus("lab-app.service", kind="simple", wanted_by=TARGET)
    assert mount == UnitStatus(
        "srv-data.mount", active="failed", sub="failed", wanted_by=("multi-user.target", "lab-app.service")
    )
    assert (gone.load, gone.active) == ("not-found", "inactive")


def judge(status: UnitStatus, *, rebooted: bool = True, now: Services = NOW) -> UnitFault | None:
    return judge_unit(status, Services(active_units=(status.name, *TARGET)), now, rebooted=rebooted)


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (UnitStatus("a.service", wanted_by=TARGET), UnitFault.NOT_STARTED),
        (UnitStatus("a.mount", wanted_by=TARGET), UnitFault.NOT_STARTED),
        (UnitStatus("docker.service", wanted_by=TARGET, triggered_by=("docker.socket",)), UnitFault.NOT_STARTED),
        (UnitStatus("a.service", active="activating", sub="auto-restart", wanted_by=TARGET), UnitFault.CRASHES),
        (UnitStatus("a.service", active="activating", sub="start", wanted_by=TARGET), UnitFault.STARTING),
        (UnitStatus("a.service", has_job=True, wanted_by=TARGET), UnitFault.STARTING),
        (UnitStatus("a.service", active="failed", wanted_by=TARGET), UnitFault.FAILED),
        (UnitStatus("a.service", load="not-found"), UnitFault.GONE),
        (UnitStatus("a.service", lacks_condition=True, wanted_by=TARGET), UnitFault.SKIPPED),
        (UnitStatus("by-hand.service"), UnitFault.NOT_STARTED_BY_ITSELF),
        (UnitStatus("a.mount", was_active=True, wanted_by=TARGET), UnitFault.STOPPED),
        (UnitStatus("ended.service", was_active=True, wanted_by=TARGET), None),
        (UnitStatus("first-boot.service", kind="oneshot", lacks_condition=True, wanted_by=TARGET), None),
        (UnitStatus("a.mount", lacks_condition=True, wanted_by=TARGET), None),
        (UnitStatus("systemd-hostnamed.service", kind="dbus"), None),
        (UnitStatus("cups.service", triggered_by=("cups.socket",)), None),
        (UnitStatus("bluetooth.target"), None),
        (UnitStatus("by-another.service", kind="oneshot", wanted_by=("not-active.target",)), None),
        (UnitStatus("a.service", load="masked", wanted_by=TARGET), UnitFault.MASKED),
        (UnitStatus("by-hand.timer", load="masked"), UnitFault.MASKED),
        (UnitStatus("renamed.service", active="active"), None),  # an alias of the unit that runs now
    ],
)
def test_what_is_told_after_a_boot(status: UnitStatus, fault: UnitFault | None) -> None:
    assert judge(status) is fault


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (UnitStatus("a.service", was_active=True, wanted_by=TARGET), UnitFault.STOPPED),
        (UnitStatus("a.timer", was_active=True, wanted_by=TARGET), UnitFault.STOPPED),
        (UnitStatus("libvirtd.service", was_active=True, wanted_by=TARGET, triggered_by=("l.socket",)), None),
        (UnitStatus("by-hand.service", was_active=True), UnitFault.NOT_STARTED_BY_ITSELF),
        (UnitStatus("init-script.service", active="active", sub="exited", kind="forking"), UnitFault.ENDED),
        (UnitStatus("once.service", active="active", sub="exited", kind="oneshot"), None),
    ],
)
def test_what_is_told_without_a_boot(status: UnitStatus, fault: UnitFault | None) -> None:
    assert judge(status, rebooted=False) is fault


def test_units_of_logins_of_devices_and_of_snaps_are_not_asked_for() -> None:
    volatile = ("user@1000.service", "sshd@1-10.0.0.1:22-10.0.0.2:50000.service", "lvm2-pvscan@8:2.service")
    before = Services(active_units=(*volatile, "snap-core20-2105.mount", "a.service"))
    after = Services(failed=("b.mount", "user@1001.service"), active_units=TARGET)
    assert find_missing_units(before, after) == ("a.service", "b.mount")
    assert find_missing_units(before, after, paused=("a.service",)) == ("b.mount",)
    assert find_missing_units(before, Services(failed=("b.mount",))) == ()


def test_a_machine_that_shows_no_units_any_more_is_not_healthy() -> None:
    (finding,) = check_services(Services(active_units=TARGET), Services())
    assert finding.level is FindingLevel.WARN


def test_a_finding_has_the_words_of_the_unit() -> None:
    words = "mount: /srv/data: mount point is not a directory.\n"
    status = UnitStatus("srv-data.mount", active="failed", wanted_by=TARGET, words=words)
    (finding,) = check_services(NOW, Services(failed=(status.name,), active_units=TARGET), units=[status])
    assert finding.message == (
        "failed since patching: srv-data.mount (mount: /srv/data: mount point is not a directory.)"
    )


def test_a_slow_job_that_runs_once_only_warns() -> None:
    slow = UnitStatus("a.service", kind="oneshot", active="activating", sub="start", wanted_by=TARGET)
    (finding,) = check_units([slow], Services(active_units=("a.service",)), NOW, rebooted=True)
    assert finding.level is FindingLevel.WARN
    assert find_starting_units([slow], Services(), NOW, rebooted=True) == ("a.service",)


STATUSES = st.builds(
    UnitStatus,
    st.sampled_from(["a.service", "b.mount", "c.socket", "d.timer", "e.target", "f.swap", "g.path", "h.automount"]),
    load=st.sampled_from(["loaded", "not-found", "masked", "error", "bad-setting"]),
    active=st.sampled_from(["active", "inactive", "failed", "activating", "deactivating", "reloading", "maintenance"]),
    sub=st.sampled_from(["dead", "failed", "auto-restart", "running"]),
    kind=st.sampled_from(["", "simple", "oneshot", "dbus", "notify"]),
    wanted_by=st.sampled_from([(), TARGET, ("other.target",)]),
    triggered_by=st.sampled_from([(), ("a.socket",)]),
    has_bus_name=st.booleans(),
    has_job=st.booleans(),
    lacks_condition=st.booleans(),
    was_active=st.booleans(),
)


@given(status=STATUSES, rebooted=st.booleans())
def test_what_the_system_starts_and_is_not_there_is_never_health(status: UnitStatus, rebooted: bool) -> None:
    is_failed = status.active == "failed"
    now = Services(failed=(status.name,) if is_failed else (), active_units=TARGET)
    fault = judge(status, rebooted=rebooted, now=now)
    if status.active in {"active", "reloading"}:
        assert fault is None
    elif is_failed:
        assert fault is UnitFault.FAILED
    elif status.load == "masked":
        assert fault is UnitFault.MASKED
    elif status.wanted_by == TARGET and fault is None:
        ended = status.was_active and status.name == "a.service"
        assert ended or status.lacks_condition or (status.starts_on_demand and not rebooted)
    elif status.load == "not-found":
        assert fault is not None


def look(*runs: ServiceRun) -> Services:
    return Services(active_units=("a.service",), runs=runs)


def told(
    before: ServiceRun, first: ServiceRun | None, second: ServiceRun, seconds: float = 45
) -> list[tuple[str, str]]:
    findings = check_runs(look(before), look(*[first] if first else []), look(second), seconds)
    return [(finding.level.value, finding.message) for finding in findings]


OLD = ServiceRun("a.service", "1", 0, 86_400, restarts_itself=True)
NEW = ServiceRun("a.service", "2", 0, 0.3, restarts_itself=True)
DIED = "ended since patching, and was started again: a.service"
LOOPS = "ends again and again since patching, and is started again: a.service"


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (OLD, OLD, []),
        (NEW, NEW, []),
        (NEW, replace(NEW, run="3"), []),  # somebody has started it again: that begins its count anew
        (NEW, replace(NEW, run="3", restarts=1), [("block", DIED)]),
        (OLD, replace(OLD, run="3", restarts=1), [("block", DIED)]),
        (NEW, replace(NEW, run="9", restarts=7), [("block", f"{LOOPS} (7 times in 45 s)")]),
        (NEW, replace(NEW, is_between=True), [("block", LOOPS)]),
        (
            replace(NEW, restarts=2),
            replace(NEW, restarts=2),
            [("remark", "ended while the machine was patched, was started again, and runs since: a.service")],
        ),
        (replace(NEW, restarts=2), replace(NEW, run="3", restarts=3), [("block", DIED)]),
        (replace(NEW, restarts=4), replace(NEW, run="3", restarts=1), [("block", DIED)]),  # started anew between
        (None, replace(NEW, run="3", restarts=1), [("block", DIED)]),
        (None, NEW, []),
    ],
)
def test_a_service_that_ends_after_the_first_look_blocks(
    first: ServiceRun | None, second: ServiceRun, wanted: list[tuple[str, str]]
) -> None:
    assert told(OLD, first, second) == wanted


def test_a_service_that_looped_in_the_same_way_before_is_named_only() -> None:
    before = replace(OLD, restarts=900, age_seconds=3)
    first, second = replace(NEW, run="7", restarts=901), replace(NEW, run="16", restarts=910)
    assert told(before, first, second) == [
        ("remark", "ends again and again, as before the run: a.service (9 times in 45 s)")
    ]
    lived_long = replace(before, age_seconds=300)  # it lives for 5 s now
    assert told(lived_long, first, second)[0][0] == "block"
    assert told(replace(before, restarts=1), first, second)[0][0] == "block"  # it had ended once
    assert find_loops(look(before, replace(lived_long, name="b.service"))) == ("a.service",)
    assert find_loops(look(replace(OLD, is_between=True))) == ("a.service",)


def test_without_the_count_of_systemd_another_run_counts() -> None:
    old, new = (replace(run, restarts=None) for run in (OLD, NEW))
    assert told(old, new, new) == []
    assert told(old, new, replace(new, run="3")) == [("block", DIED)]
    assert told(old, new, replace(new, run="3", restarts_itself=False)) == []  # somebody has started it
    assert told(old, None, new) == []


def test_a_service_that_was_started_again_by_anybody_is_told() -> None:
    login = replace(OLD, name="user@0.service")
    assert find_restarted_services(look(OLD, login), look(NEW, replace(login, run="5"))) == ("a.service",)
    assert find_restarted_services(look(OLD), look(OLD)) == ()
    assert find_restarted_services(look(), look(NEW)) == ()


@given(st.integers(0, 9), st.integers(0, 9), st.booleans(), st.booleans())
def test_the_same_run_has_not_ended(before: int, after: int, is_other: bool, is_between: bool) -> None:
    later = replace(OLD, run="2" if is_other else "1", restarts=after, is_between=is_between)
    ends = count_ends(replace(OLD, restarts=before), later)
    assert ends is not None
    assert ends >= is_between
    if not is_other and after == before:
        assert ends == is_between
    if after > before:
        assert ends >= after - before


def test_a_service_whose_processes_are_gone_is_asked_for_though_systemd_calls_it_active() -> None:
    runs = (ServiceRun("gone.service", "1"), ServiceRun("left.service", "2"), ServiceRun("once.service", "3"))
    before = Services(active_units=("gone.service", "left.service", *TARGET), runs=runs)
    now = Services(active_units=("gone.service", "left.service", "once.service", *TARGET), runs=runs[1:2])
    assert find_missing_units(before, now) == ("gone.service",)
    (finding,) = check_services(before, Services(active_units=now.active_units))
    assert "can't show" in finding.message


def test_a_worker_that_ends_now_and_then_by_design_has_not_died_of_the_update() -> None:
    worker = replace(OLD, restarts=40, age_seconds=3000)
    later = replace(worker, run="3", restarts=41, age_seconds=5)
    ((level, message),) = told(worker, worker, later)
    assert (level, message) == ("remark", "ends again and again, as before the run: a.service")
    assert told(worker, worker, replace(later, restarts=42))[0][0] == "block"  # twice in 45 s
    steady = replace(worker, age_seconds=86_400)
    assert told(steady, steady, later)[0][0] == "block"  # it lived a day
    assert told(worker, worker, replace(later, is_between=True))[0][0] == "block"
    assert told(worker, replace(worker, run="2", restarts=0), later)[0][0] == "block"  # it was started anew, and died
    assert told(replace(worker, restarts=0), replace(worker, restarts=0), replace(later, restarts=1))[0][0] == "block"
