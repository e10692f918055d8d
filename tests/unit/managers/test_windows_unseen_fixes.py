"""Windows: what may hide fixes, so that nothing unknown is Compliant."""

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tasks.domain.compliance import UNASKED_AGENT, judge_compliance, merge_problems
from tasks.domain.model import Assessment, PackageState
from tasks.domain.states import Compliance, FindingLevel
from tasks.machines.managers.windows_update.assessment import parse_windows_assessment
from tasks.machines.managers.windows_update.unseen_fixes import load_support_ends
from tasks.rules.machine_checks.packages import check_known_faults
from tests.unit.managers.windows_records import (
    NOW,
    UPDATES,
    assessment,
    guid,
    history_record,
    policy_record,
    running_record,
    search_record,
    system_record,
    update_record,
)

WSUS = {"WUServer": "http://wsus:8530", "UseWUServer": "1"}
MDM_WSUS = {"mdm:UpdateServiceUrl": "http://intune-wsus:8530"}
CLASSES = ("Quality", "Feature", "Driver", "Other")


def scan_sources(source: str, prefix: str = "", **changes: str) -> dict[str, str]:
    """The scan source policies of all classes of updates, with their switch."""
    values = dict.fromkeys(CLASSES, source) | changes
    return {"UseUpdateClassPolicySource": "1"} | {
        f"{prefix}SetPolicyDrivenUpdateSourceFor{name}Updates": value for name, value in values.items() if value
    }


FROM_WSUS, FROM_WINDOWS_UPDATE = scan_sources("1"), WSUS | scan_sources("0")
CURRENT = "2026-11 Cumulative Update for Windows Server 2022 (KB5068861)"
OLD = "2026-08 Cumulative Update for Windows Server 2022 (KB5064861)"
PREVIEW = "2026-10 Cumulative Update Preview for Windows Server 2022 (KB5064862)"
SQL = {"kind": "products", "services": ["MSSQLSERVER"], "microsoft_update": False}
NEVER = {"kind": "searched", "at": None}
HEALTHY = history_record(9, title=CURRENT)
UNKNOWN = {"kind": "running_update", "at": -11_644_473_600}
OLD_RUNS = running_record("2026-08-20")
WAITING_PREVIEW = update_record(
    2, title=PREVIEW.replace("-10", "-11"), categories=[UPDATES], reboot_required=True, superseded=[guid(1)]
)
SERVICING = {"kind": "reboot", "servicing": True, "update_agent": True}


def state_of(*records: Any, bare: Any = None) -> PackageState:
    return parse_windows_assessment(assessment(*records, bare=bare))


def judge(*records: Any) -> Compliance:
    state = state_of(*records)
    return Assessment("win-1", datetime.fromtimestamp(NOW, UTC), 1.0, packages=state).compliance


def told(*records: Any) -> str:
    (problem,) = state_of(*records).repository_problems
    assert problem.hides_fixes
    assert problem.remedy
    return problem.message


def test_a_machine_with_the_newest_month_that_is_offered_nothing_is_compliant() -> None:
    assert judge() is judge(HEALTHY) is judge(policy_record(**WSUS), HEALTHY) is Compliance.COMPLIANT


@pytest.mark.parametrize(
    ("records", "word"),
    [
        ([policy_record(**WSUS)], "no cumulative update of Windows is known to be installed here, and WSUS"),
        ([policy_record(**WSUS), history_record(9, title=OLD)], "is of 2026-08, and WSUS"),
        ([UNKNOWN], "no cumulative update"),
        ([UNKNOWN | {"at": 253_402_300_799}], "no cumulative update"),
        ([HEALTHY, OLD_RUNS], "is of 2026-08, and Windows Update"),  # dism has removed it
        ([policy_record(**WSUS), HEALTHY, OLD_RUNS], "no cumulative update"),
        ([policy_record(**WSUS), history_record(9, title=f"{CURRENT} (17763.2000)"), OLD_RUNS], "no cumulative"),
        ([policy_record(**WSUS), history_record(9, title=CURRENT.replace("2026", "2029"))], "no cumulative update"),
        ([policy_record(**WSUS), history_record(9, title=CURRENT.replace("Windows", "Microsoft Edge"))], "no cumul"),
        ([policy_record(**WSUS), history_record(9, title=CURRENT.replace("Cumul", "Dynamic Cumul"))], "no cumul"),
        ([WAITING_PREVIEW, OLD_RUNS], "is of 2026-08, and Windows Update"),
        ([policy_record(PauseQualityUpdatesStartTime="9999-12-01")], "a policy pauses quality updates since 9999"),
        ([running_record("2026-10-14")], "is of 2026-10, and Windows Update offers none"),
        (
            [policy_record(TargetReleaseVersionInfo="23H2"), running_record("2026-10-14")],
            "since 2026-11-10; the policy TargetReleaseVersion keeps it at 23H2",
        ),
        ([HEALTHY, {**HEALTHY, "operation": 2, "at": NOW}, running_record("2026-08-20")], "is of 2026-08"),
        ([policy_record(PauseQualityUpdatesStartTime="2026-11-01")], "a policy pauses quality updates since 2026-11"),
        ([policy_record(PauseQualityUpdatesStartTime="yesterday")], "a policy pauses quality updates since yesterday"),
        ([policy_record(PauseQualityUpdates="1")], "a policy pauses quality updates"),
        ([policy_record(DeferQualityUpdates="1", DeferQualityUpdatesPeriodInDays="8")], "a policy defers"),
        ([policy_record(DeferQualityUpdates="1", DeferQualityUpdatesPeriodInDays="soon")], "by soon days"),
        ([policy_record(**{"mdm:PauseQualityUpdatesStartTime": "2026-11-10"})], "Intune or another MDM pauses"),
        ([policy_record(**{"mdm:DeferQualityUpdatesPeriodInDays": "30"})], "Intune or another MDM defers"),
        ([policy_record(**{"mdm:AllowUpdateService": "0"})], "forbids all update services"),
        ([policy_record(**{"settings:PauseUpdatesExpiryTime": "2026-12-01T10:00:00Z"})], "Settings, Windows Update"),
        ([policy_record(**{"settings:DeferQualityUpdatesPeriodInDays": "9" * 5000})], "on the machine defers"),
        (
            [
                policy_record(**{"settings:DeferQualityUpdatesPeriodInDays": "7"}),
                history_record(9, title=OLD),
                running_record("2026-09-30"),
            ],
            "is of 2026-09, and Windows Update offers none",
        ),
        ([policy_record(**MDM_WSUS)], "is known to be installed here, and WSUS http://intune-wsus:8530 offers none"),
        ([policy_record(**FROM_WSUS)], "a policy takes quality updates from WSUS, and no WSUS server is set"),
        (
            [policy_record(**FROM_WINDOWS_UPDATE, DoNotConnectToWindowsUpdateInternetLocations="1")],
            "no WSUS server is set for quality updates",
        ),
        ([policy_record(**FROM_WINDOWS_UPDATE), SQL], "MSSQLSERVER come from Microsoft Update, which is off here"),
        ([policy_record(**{"state:PausedQualityStatus": "1"})], "PausedQualityStatus"),
        ([policy_record(DisableWindowsUpdateAccess="1")], "DisableWindowsUpdateAccess"),
        ([policy_record(DoNotConnectToWindowsUpdateInternetLocations="1")], "no WSUS server is set"),
        ([policy_record() | {"unread": ["HKLM:\\x"]}], "not read: HKLM:\\x"),
        ([system_record(build="9600", edition="ServerStandard")], "the support of Windows Server 2012 R2 has ended"),
        ([system_record(build="12345")], "whether build 12345 (ServerDatacenter) still gets updates is not known"),
        ([system_record(build="")], "whether build ? (ServerDatacenter) still gets updates is not known"),
        ([system_record(edition="ServerAzureStackHCICor")], "whether Azure Stack HCI 21H2 still gets updates"),
        ([SQL], "MSSQLSERVER come from Microsoft Update, which is off here"),
        ([SQL | {"microsoft_update": None}], "and whether that is on could not be read"),
        ([search_record(online=False)], UNASKED_AGENT.message),
        ([search_record(online=False), NEVER], UNASKED_AGENT.message),
        ([search_record(online=False), {"kind": "searched", "at": NOW - 9 * 86_400}], UNASKED_AGENT.message),
        ([search_record(online=False), {"kind": "searched", "at": NOW + 9 * 86_400}], UNASKED_AGENT.message),
        ([running_record("2027-06-01")], "no cumulative update"),  # by a clock that was wrong
        ([policy_record(**WSUS), HEALTHY, {**HEALTHY, "result_code": 4, "at": NOW}], "no cumulative update"),
        ([policy_record(**WSUS), history_record(9, title=f"{CURRENT} (20348.2701)")], "no cumulative update"),
        ([policy_record(**WSUS), update_record(title=PREVIEW, categories=[UPDATES])], "no cumulative update"),
        ([policy_record(PauseQualityUpdatesStartTime="2026-11-10", **{"state:PausedQualityStatus": "2"})], "pauses"),
        (
            [
                policy_record(
                    **{
                        "settings:PauseQualityUpdatesEndTime": "2026-11-01T00:00:00Z",
                        "settings:PauseUpdatesExpiryTime": "2051-01-01T00:00:00Z",
                    }
                )
            ],
            "pauses",
        ),
        ([system_record(installation_type="")], "whether build 20348 (ServerDatacenter) still gets updates"),
        ([search_record(result_code=3)], "the agent does not say which"),
    ],
)
def test_what_hides_fixes_is_told_and_the_machine_is_not_assessed(records: list[Any], word: str) -> None:
    assert word in told(*records)
    assert judge(*records) is Compliance.NOT_ASSESSED


def test_a_machine_that_says_nothing_of_its_policies_is_not_assessed() -> None:
    (problem,) = state_of(
        bare=[system_record(), search_record(), {"kind": "reboot"}, running_record()]
    ).repository_problems
    assert "its policies" in problem.message


@pytest.mark.parametrize(
    "policy",
    [
        {"PauseQualityUpdatesStartTime": "2026-10-01"},
        {"settings:PauseQualityUpdatesStartTime": "2026-11-01", "settings:PauseQualityUpdatesEndTime": "2026-11-08"},
        {"PauseQualityUpdates": "1", "state:PausedQualityStatus": "2"},
        {"settings:PauseQualityUpdatesEndTime": "2026-11-08", "state:PausedQualityStatus": "1"},
        {"DeferQualityUpdates": "0", "DeferQualityUpdatesPeriodInDays": "7"},
        {"DeferQualityUpdates": "1", "DeferQualityUpdatesPeriodInDays": "0"},
        {"DoNotConnectToWindowsUpdateInternetLocations": "1"} | WSUS,
        {"TargetReleaseVersionInfo": "24H2", "mdm:AllowUpdateService": "1", "state:PausedQualityStatus": "0"},
    ],
)
def test_a_pause_that_is_over_and_a_policy_without_effect_hide_nothing(policy: dict[str, str]) -> None:
    assert state_of(policy_record(**policy), HEALTHY).repository_problems == ()


@pytest.mark.parametrize(
    ("records", "remark"),
    [
        ([policy_record(DeferQualityUpdates="1", DeferQualityUpdatesPeriodInDays="7")], "a policy defers quality upda"),
        ([policy_record(**{"mdm:DeferQualityUpdatesPeriodInDays": "3"})], "a policy of Intune or another MDM defers"),
        ([policy_record(**{"settings:DeferQualityUpdatesPeriodInDays": "1"})], "Settings, Windows Update, on"),
        ([policy_record(**WSUS), SQL], "updates of MSSQLSERVER come from WSUS: whether it approves all of them"),
        ([policy_record(**MDM_WSUS), SQL | {"microsoft_update": True}], "updates of MSSQLSERVER come from WSUS"),
        ([policy_record(**WSUS, **scan_sources("1")), SQL], "updates of MSSQLSERVER come from WSUS"),
        ([policy_record(**FROM_WINDOWS_UPDATE)], "judged as Windows Update (a policy prefers it to WSUS http://wsus:8530)"),
        ([policy_record(**FROM_WINDOWS_UPDATE, DisableDualScan="1")], "judged as WSUS http://wsus:8530"),
    ],
)  # fmt: skip
def test_what_limits_the_source_on_purpose_is_a_remark(records: list[Any], remark: str) -> None:
    state = state_of(*records, HEALTHY)
    assert (state.repository_problems, state.warnings) == ((), ())
    (finding,) = check_known_faults(state)
    assert remark in finding.message
    assert finding.level is FindingLevel.REMARK
    assert judge(*records, HEALTHY) is Compliance.COMPLIANT


@pytest.mark.parametrize(
    ("policy", "system", "is_wsus"),
    [
        (WSUS, {}, True),
        (MDM_WSUS, {}, True),
        ({"mdm:UpdateServiceUrl": "CorpWSUS"}, {}, False),
        ({"WUServer": "http://wsus:8530"}, {}, False),
        (FROM_WINDOWS_UPDATE, {}, False),
        (MDM_WSUS | scan_sources("0", "mdm:"), {}, False),
        (WSUS | FROM_WSUS, {}, True),
        (WSUS | scan_sources("0", Quality="1"), {}, True),
        (FROM_WINDOWS_UPDATE | scan_sources("1", "mdm:"), {}, True),
        (WSUS | scan_sources("0", Other=""), {}, True),
        (FROM_WINDOWS_UPDATE | {"UseUpdateClassPolicySource": "0"}, {}, True),
        (FROM_WINDOWS_UPDATE, {"build": "17763"}, True),
        (FROM_WINDOWS_UPDATE | {"mdm:DisableDualScan": "1"}, {}, True),
        (FROM_WINDOWS_UPDATE | {"DisableDualScan": "1"}, {"build": "26100"}, False),
    ],
)
def test_the_source_of_quality_updates_is_the_one_that_policies_choose(
    policy: dict[str, str], system: dict[str, str], *, is_wsus: bool
) -> None:
    """Only Windows Update cannot have offered an old update on the day when the running one was installed."""
    state = state_of(policy_record(**policy), system_record(**system))
    assert bool(state.repository_problems) is is_wsus
    (update,) = state_of(policy_record(**policy), system_record(**system), update_record()).updates
    assert update.origins[0].startswith("WSUS http" if is_wsus else "Windows Update")
    assert (update.published is not None) is (update.origins == ("Windows Update",))


@given(
    st.sampled_from(["mdm:", "settings:"]), st.integers(0, 7), st.integers(0, 27), st.integers(-20, 27), st.booleans()
)
def test_a_deferral_hides_nothing_until_its_month_must_be_known(
    prefix: str, days: int, age: int, installed: int, by_title: bool
) -> None:
    """``age``: days since the month's publication; ``installed``: days from it to the installation of what runs."""
    release, installed = datetime(2026, 11, 10, 19, tzinfo=UTC), min(installed, age)
    is_proven = installed >= days  # before, the month before was offered
    title = CURRENT if is_proven else CURRENT.replace("2026-11", "2026-10")
    state = state_of(
        policy_record(**{f"{prefix}DeferQualityUpdatesPeriodInDays": str(days)}),
        system_record(at=int((release + timedelta(days=age)).timestamp())),
        UNKNOWN if by_title else running_record(f"{release + timedelta(days=installed):%Y-%m-%dT%H:%M}"),
        *([history_record(9, title=title)] if by_title else []),
    )
    assert bool(state.repository_problems) is (not is_proven and age >= max(7, days + 1))
    assert len(state.remarks) == bool(days)


@given(st.one_of(st.integers(8, 10**6).map(str), st.text("0123456789x-", min_size=1, max_size=6)))
def test_a_deferral_that_is_long_or_no_number_hides_fixes(days: str) -> None:
    assume(days.strip() not in set("01234567"))
    assert " defers quality updates by " in told(
        policy_record(**{"mdm:DeferQualityUpdatesPeriodInDays": days}), HEALTHY
    )


def test_an_update_of_the_month_before_that_is_installed_before_the_publication_proves_nothing() -> None:
    assert "is of 2026-10" in told(running_record("2026-11-10T03:00"))
    assert judge(running_record("2026-11-10T19:00")) is Compliance.COMPLIANT


def test_the_titles_of_what_the_agent_has_installed_prove_a_month() -> None:
    installed = update_record(title=f"{CURRENT} (20348.2700)", installed=True)
    assert judge(policy_record(**WSUS), installed) is Compliance.COMPLIANT
    for changes in ({"title": OLD}, {"title": f"{CURRENT} (20348.2701)"}, {"title": "Update (KB5068861)"}):
        assert "WSUS http://wsus:8530 offers none" in told(policy_record(**WSUS), installed | changes)


def test_extended_security_updates_are_seen_by_an_update_after_the_end() -> None:
    rollup = history_record(9, title="2026-11 Security Monthly Quality Rollup for Windows Server 2012 R2 (KB5070000)")
    old = system_record(build="9600", edition="ServerStandard")
    assert judge(old, rollup) is Compliance.COMPLIANT
    earlier = {**rollup, "title": rollup["title"].replace("2026-11", "2026-09")}
    assert "is of 2026-09, and Windows Update offers none" in told(old, earlier, running_record("2026-09-10"))
    pinned = policy_record(TargetReleaseVersionInfo="22H2")
    system = system_record(build="19045", edition="Professional", installation_type="Client")
    assert told(system, pinned).endswith("; the policy TargetReleaseVersion keeps it at 22H2")


def test_a_month_counts_from_the_eighth_day_on() -> None:
    release = int(datetime(2026, 11, 10, tzinfo=UTC).timestamp())
    for days, is_told in ((7, True), (6, False)):
        state = state_of(system_record(at=release + days * 86_400), running_record("2026-10-20"))
        assert bool(state.repository_problems) is is_told


def test_an_update_that_is_offered_speaks_for_its_source() -> None:
    assert judge(policy_record(**WSUS), update_record(title=OLD)) is Compliance.NON_COMPLIANT
    hidden = update_record(title=CURRENT, hidden=True, categories=[])
    assert "no cumulative update" in told(policy_record(**WSUS), hidden)


def test_a_later_read_judges_policies_anew_and_asks_nobody_for_the_age_of_the_search() -> None:
    held = state_of(policy_record(DisableWindowsUpdateAccess="1")).repository_problems
    stored = state_of(search_record(online=False)).repository_problems
    assert merge_problems((), held, was_asked=True) == merge_problems(stored, (), was_asked=True) == ()
    assert merge_problems(stored, stored, was_asked=False) == stored
    partial = state_of(search_record(result_code=3)).repository_problems
    assert merge_problems((), partial, was_asked=True) == partial


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([{"kind": "reboot", "update_agent": True}], Compliance.NOT_ASSESSED),
        ([{"kind": "reboot", "servicing": True}], Compliance.NOT_ASSESSED),
        ([{"kind": "reboot", "renamed": True}], Compliance.COMPLIANT),
        ([{"kind": "reboot", "known": False}], Compliance.NOT_ASSESSED),
        ([update_record(title=CURRENT), WAITING_PREVIEW, SERVICING], Compliance.NON_COMPLIANT),
        ([HEALTHY, WAITING_PREVIEW, SERVICING], Compliance.COMPLIANT),  # the month's update runs already
        ([update_record(categories=[UPDATES], reboot_required=True), SERVICING], Compliance.COMPLIANT),  # of .NET
        ([update_record(categories=[UPDATES], type=2, reboot_required=True), SERVICING], Compliance.NOT_ASSESSED),
        ([HEALTHY, running_record("2026-11-10T17:30")], Compliance.COMPLIANT),  # in summer it is published at 17 h
        ([update_record(reboot_required=True, categories=["e0789628-ce08-4437-be74-2495b842f43b"]), SERVICING],
         Compliance.NOT_ASSESSED),
        ([update_record(reboot_required=True)], Compliance.NON_COMPLIANT),
        ([update_record(reboot_required=True), {"kind": "reboot", "update_agent": True}], Compliance.NON_COMPLIANT),
        ([update_record(reboot_required=True, categories=["e0789628-ce08-4437-be74-2495b842f43b"])],
         Compliance.COMPLIANT),
    ],
)  # fmt: skip
def test_what_is_installed_and_waits_for_its_reboot_is_not_compliant(records: list[Any], expected: Compliance) -> None:
    assert judge(*records) is expected


SOURCES = st.sampled_from([{}, WSUS, MDM_WSUS, WSUS | {"SetPolicyDrivenUpdateSourceForQualityUpdates": "0"}])
HOLDS: dict[str, dict[str, str]] = {
    "nothing": {},
    "paused": {"PauseQualityUpdatesStartTime": "2026-11-15"},
    "deferred": {"mdm:DeferQualityUpdatesPeriodInDays": "8"},
    "by a person": {"settings:PauseUpdatesExpiryTime": "2026-12-05T00:00:00Z"},
    "forbidden": {"DisableWindowsUpdateAccess": "1"},
}
SEARCHES: dict[str, list[dict[str, Any]]] = {
    "now": [search_record()],
    "in part": [search_record(result_code=3)],
    "stored": [search_record(online=False), {"kind": "searched", "at": NOW - 3_600}],
    "old": [search_record(online=False), {"kind": "searched", "at": NOW - 30 * 86_400}],
    "never": [search_record(online=False), NEVER],
}
SYSTEMS = {"supported": "20348", "ended": "9600", "unknown": "11111"}
NEWEST: dict[str, list[dict[str, Any]]] = {
    "by title": [HEALTHY],
    "by day": [running_record()],
    "old": [history_record(9, title=OLD), running_record("2026-08-20")],
    "removed": [HEALTHY, OLD_RUNS],
    "unknown": [UNKNOWN],
}
OFFERED: dict[str, list[dict[str, Any]]] = {
    "nothing": [],
    "a driver": [update_record(1, type=2, categories=["ebfc1fc5-71a4-4f7b-9aca-3b9a503104a0"])],
    "security": [update_record(1, title=CURRENT)],
    "of no class": [update_record(1, categories=[])],
    "installed, waits": [update_record(1, title=CURRENT, reboot_required=True)],
}


@given(
    source=SOURCES,
    hold=st.sampled_from(list(HOLDS)),
    search=st.sampled_from(list(SEARCHES)),
    system=st.sampled_from(list(SYSTEMS)),
    newest=st.sampled_from(list(NEWEST)),
    offered=st.sampled_from(list(OFFERED)),
)
def test_no_unknown_is_compliant_in_any_combination(
    source: dict[str, str], hold: str, search: str, system: str, newest: str, offered: str
) -> None:
    compliance = judge(
        policy_record(**source, **HOLDS[hold]),
        *SEARCHES[search],
        system_record(build=SYSTEMS[system]),
        *NEWEST[newest],
        *OFFERED[offered],
    )
    proven = newest == "by title" or (newest == "by day" and not source) or (offered == "installed, waits")
    is_known = hold == "nothing" and search in {"now", "stored"} and system == "supported" and proven
    if offered in {"security", "installed, waits"}:
        assert compliance is Compliance.NON_COMPLIANT
    else:
        extended = system == "ended" and newest == "by title"  # an update after the end: extended security updates
        is_known = is_known or (extended and hold == "nothing" and search in {"now", "stored"})
        assert (compliance is Compliance.COMPLIANT) == (is_known and offered != "of no class")


@given(st.booleans(), st.integers(0, 3), st.integers(0, 3), st.sampled_from([None, True, False]), st.booleans())
def test_one_problem_that_hides_fixes_is_enough_for_every_family(
    broken: bool,
    urgent: int,
    unclassified: int,
    waiting: bool | None,
    windows: bool,
) -> None:
    problems = state_of(policy_record(**WSUS)).repository_problems if windows else ()
    compliance = judge_compliance(
        urgent=urgent, unclassified=unclassified, broken=broken, problems=problems, waiting=waiting
    )
    assert not (windows and compliance is Compliance.COMPLIANT)


def test_the_table_of_products_is_whole() -> None:
    rows = load_support_ends()
    keys = [(row.build, row.is_client, row.edition) for row in rows]
    assert len(keys) == len(set(keys))
    assert {(row.build, row.is_client) for row in rows} == {key[:2] for key in keys if not key[2] or key[0] == 20349}
    for row in rows:
        assert row.last_day is None or date(2016, 1, 1) < row.last_day < date(2036, 1, 1)
    # an edition of a company has its updates at least as long as that of a person
    for one, other in itertools.product(rows, rows):
        same = (one.build, one.is_client) == (other.build, other.is_client) and one.is_client
        if same and other.edition == "" and one.last_day and other.last_day:
            assert one.last_day >= other.last_day - timedelta(days=1)


@pytest.mark.parametrize(
    ("build", "edition", "kind", "end"),
    [
        ("14393", "ServerStandard", "Server Core", "2027-01-13"),
        ("19045", "Enterprise", "Client", "2025-10-15"),
        ("22631", "Professional", "Client", "2025-11-12"),
        ("22631", "EnterpriseN", "Client", "2026-11-11"),
        ("17763", "EnterpriseS", "Client", "2029-01-10"),
        ("19044", "IoTEnterpriseS", "Client", "2032-01-14"),
        ("17763", "ServerDatacenterACor", "Server Core", "2020-11-11"),
    ],
)
def test_the_end_of_support_is_that_of_the_edition(build: str, edition: str, kind: str, end: str) -> None:
    system = {"build": build, "edition": edition, "installation_type": kind}
    first = datetime.fromisoformat(f"{end}T00:00:00+00:00")
    for moment, is_over in ((first - timedelta(seconds=1), False), (first, True)):
        running = running_record(f"{moment:%Y-%m-%d}")
        problems = state_of(system_record(at=int(moment.timestamp()), **system), running).repository_problems
        assert ["has ended" in problem.message for problem in problems] == [True] * is_over
        assert not is_over or end in problems[0].message


@pytest.mark.parametrize(
    "title",
    [
        "2026-11 Security Update (KB5068861) (20348.2700)",
        "2026-11 Kumulatives Update für Windows Server 2022 für x64-basierte Systeme (KB5068861) (20348.2700)",
        "2026-11安全更新 (KB5068861) (20348.2700)",
        "2026-11 x64 ベース システム用の累積更新プログラム (KB5068861) (20348.2699)",
        "2026-11 Hotpatch-Update für Windows Server (KB5068861) (20348.9999)",
    ],
)
def test_titles_in_other_languages_prove_their_month(title: str) -> None:
    assert judge(policy_record(**WSUS), history_record(9, title=title)) is Compliance.COMPLIANT


def test_updates_of_others_prove_no_month() -> None:
    others = (
        "2026-11 Cumulative Update for .NET Framework 3.5 and 4.8 for Windows Server 2022 (KB5066136)",
        "2026-11 Servicing Stack Update for Windows Server 2022 (KB5066137)",
        "Security Intelligence Update for Microsoft Defender Antivirus - KB2267602",
    )
    entries = [history_record(number, title=title) for number, title in enumerate(others)]
    assert "no cumulative update" in told(policy_record(**WSUS), *entries)
    assert guid(1) == entries[1]["id"]
