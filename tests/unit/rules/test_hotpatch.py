"""Hotpatches and live patches: statuses, baselines, and what a request does."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.model import Finding, HotpatchEnrolment
from tasks.domain.states import FindingLevel, HotpatchStatus
from tasks.rules.hotpatch import (
    BASELINE_MONTHS,
    PACKAGE,
    TABLE_SIZE,
    VBS,
    Baseline,
    BaselineCalendar,
    EnrolmentRequest,
    HotpatchAction,
    find_first_day,
    find_hotpatch_status,
    find_last_baseline,
    find_next_baseline,
    find_second_tuesday,
    plan_change,
)

NOW = datetime(2026, 11, 23, tzinfo=UTC)
TODAY = NOW.date()
JANUARY = date(2027, 1, 12)
ENROLL, UNENROLL, ENABLE, DISABLE = HotpatchAction
NOT_ENROLLED, ENABLED, CANCELED, DISABLED, PENDING = HotpatchStatus


def says(
    enrolled: bool | None, receives: bool | None, means: str = "pro", provider: str = "livepatch"
) -> HotpatchEnrolment:
    return HotpatchEnrolment(provider, means, enrolled, receives)


def asked(action: HotpatchAction, *, not_before: date | None = None, failure: str = "") -> EnrolmentRequest:
    return EnrolmentRequest(action, NOW, "anne", not_before, failure)


class TestStatus:
    @pytest.mark.parametrize(
        ("enrolled", "receives", "request_made", "status"),
        [
            (False, False, None, NOT_ENROLLED),
            (True, True, None, ENABLED),
            (True, False, None, DISABLED),
            (None, None, None, None),
            (True, None, None, None),
            (False, False, asked(ENROLL), PENDING),
            (True, False, asked(ENROLL), PENDING),
            (True, False, asked(ENABLE), PENDING),
            (True, True, asked(ENROLL), ENABLED),
            (True, True, asked(ENROLL, not_before=JANUARY), PENDING),
            (True, True, asked(ENROLL, not_before=TODAY), ENABLED),
            (False, False, asked(UNENROLL), CANCELED),
            (True, False, asked(UNENROLL), CANCELED),
            (True, True, asked(UNENROLL), ENABLED),
            (True, False, asked(DISABLE), DISABLED),
            (True, True, asked(DISABLE), ENABLED),
            (False, False, asked(DISABLE), NOT_ENROLLED),
            (False, False, asked(ENROLL, failure="refused"), NOT_ENROLLED),
            (True, False, asked(UNENROLL, failure="refused"), DISABLED),
        ],
    )
    def test_it_follows_from_the_machine_and_the_last_request(
        self,
        enrolled: bool | None,
        receives: bool | None,
        request_made: EnrolmentRequest | None,
        status: HotpatchStatus | None,
    ) -> None:
        assert find_hotpatch_status(says(enrolled, receives), request_made, TODAY) is status

    def test_a_machine_that_says_nothing_has_none(self) -> None:
        assert find_hotpatch_status(None, asked(ENROLL), TODAY) is None

    @given(
        st.sampled_from([True, False]),
        st.sampled_from([True, False]),
        st.none() | st.builds(asked, st.sampled_from(HotpatchAction), not_before=st.none() | st.just(JANUARY)),
        st.dates(date(2026, 11, 23), date(2027, 12, 31)),
    )
    def test_no_request_makes_a_machine_enabled_that_receives_nothing(
        self, enrolled: bool, receives: bool, request_made: EnrolmentRequest | None, today: date
    ) -> None:
        status = find_hotpatch_status(says(enrolled, receives), request_made, today)
        assert status is not None
        if status is ENABLED:
            assert enrolled
            assert receives
        if enrolled and receives and today >= JANUARY:
            assert status is ENABLED

    @pytest.mark.parametrize(
        ("action", "previous", "day"),
        [
            (ENROLL, None, None),
            (ENROLL, asked(UNENROLL), JANUARY),
            (ENROLL, asked(UNENROLL, failure="refused"), None),
            (ENROLL, asked(ENROLL, not_before=date(2026, 12, 1)), date(2026, 12, 1)),
            (UNENROLL, asked(UNENROLL), None),
        ],
    )
    def test_after_an_unenrolment_hotpatches_come_with_the_next_baseline(
        self, action: HotpatchAction, previous: EnrolmentRequest | None, day: date | None
    ) -> None:
        assert find_first_day(action, previous, JANUARY) == day


UNPLANNED = Baseline(date(2026, 12, 8), "a zero-day", "https://example.org", ("20348",))
CALENDAR = BaselineCalendar((UNPLANNED,), as_of=date(2026, 11, 20))


class TestBaselines:
    @given(st.dates(date(2022, 1, 1), date(2090, 12, 31)))
    def test_the_planned_ones_are_second_tuesdays_of_quarters(self, today: date) -> None:
        following, last = find_next_baseline(today), find_last_baseline(today)
        assert last <= today <= following
        for day in (following, last):
            assert (day.weekday(), day.month in BASELINE_MONTHS, 8 <= day.day <= 14) == (1, True, True)
        assert list(BaselineCalendar().iterate(following, following)) == [(following, Baseline(following))]

    def test_an_unplanned_one_replaces_the_hotpatch_of_its_month_for_its_builds(self) -> None:
        assert CALENDAR.find_next(TODAY, "20348") == UNPLANNED
        assert CALENDAR.find_next(TODAY, "26100").day == JANUARY
        assert CALENDAR.find_next(date(2026, 12, 9), "20348") == Baseline(JANUARY)
        assert CALENDAR.find_last(date(2026, 12, 31), "20348") == UNPLANNED
        days = list(CALENDAR.iterate(TODAY, date(2027, 2, 28)))
        assert [(day, found and found.is_planned) for day, found in days] == [
            (date(2026, 12, 8), False),
            (JANUARY, True),
            (find_second_tuesday(2027, 2), None),
        ]

    def test_an_old_list_says_so(self) -> None:
        assert CALENDAR.describe_age(TODAY) == ""
        assert BaselineCalendar().describe_age(TODAY) == ""
        assert "2026-11-20" in CALENDAR.describe_age(TODAY + timedelta(days=90))


NO_VBS = Finding(VBS, FindingLevel.BLOCK, "virtualization-based security is off")
NO_LICENCE = Finding("licence", FindingLevel.BLOCK, "no licence", "ask Arc")
EDITION = Finding("edition", FindingLevel.BLOCK, "the wrong edition", "another one")
AZURE_2022 = HotpatchEnrolment("hotpatch", "registry", enrolled=False, receives=False, product="20348")
AZURE_2025 = replace(AZURE_2022, product="26100", enrolled=True)
ARC = HotpatchEnrolment("hotpatch", "arc", enrolled=False, receives=False, product="26100", prerequisites=(NO_LICENCE,))


class TestPlan:
    @pytest.mark.parametrize(
        ("action", "enrolment", "words"),
        [
            (ENROLL, None, "neither hotpatches nor live patches"),
            (ENROLL, replace(ARC, prerequisites=(EDITION,)), "the wrong edition"),
            (ENROLL, replace(ARC, enrolled=None), "no licence"),
            (ENROLL, HotpatchEnrolment("hotpatch"), "no means"),
            (ENROLL, ARC, "Azure Arc has to do that"),
            (ENABLE, ARC, "not enrolled"),
            (DISABLE, says(enrolled=False, receives=False), "not enrolled"),
            (DISABLE, AZURE_2025, "can't be ended from the machine"),
            (
                DISABLE,
                says(enrolled=True, receives=True, means="suseconnect", provider="klp"),
                "no documented way to disable",
            ),
            (ENROLL, AZURE_2025, "nothing that fleetpatch could set"),
        ],
    )
    def test_what_people_have_to_do_is_refused(
        self, action: HotpatchAction, enrolment: HotpatchEnrolment | None, words: str
    ) -> None:
        plan = plan_change(action, enrolment, has_provider=False)
        assert words in plan.refusal
        assert not plan.steps

    @pytest.mark.parametrize(
        ("action", "enrolment"),
        [
            (ENROLL, says(enrolled=True, receives=True)),
            (DISABLE, says(enrolled=True, receives=False)),
            (UNENROLL, says(enrolled=True, receives=False)),
            (UNENROLL, says(enrolled=False, receives=False)),
        ],
    )
    def test_what_is_so_already_needs_nothing(self, action: HotpatchAction, enrolment: HotpatchEnrolment) -> None:
        plan = plan_change(action, enrolment, has_provider=False)
        assert (plan.refusal, plan.steps) == ("", ())

    def test_registry_values_come_in_microsofts_order(self) -> None:
        first = plan_change(ENROLL, replace(AZURE_2022, prerequisites=(NO_VBS,)), has_provider=False)
        assert (first.registry_values, "restart it" in first.note) == ((VBS,), True)
        then = plan_change(ENROLL, AZURE_2022, has_provider=False)
        assert (then.registry_values, "KB5003508" in then.note) == ((TABLE_SIZE, PACKAGE), True)
        newer = plan_change(ENABLE, replace(AZURE_2025, prerequisites=(NO_VBS,)), has_provider=False)
        assert newer.registry_values == (VBS,)

    def test_arc_gives_the_licence_and_never_a_registry_value_that_stands_for_one(self) -> None:
        lacking = replace(ARC, prerequisites=(NO_LICENCE, NO_VBS))
        plan = plan_change(ENROLL, lacking, has_provider=True, first_day=JANUARY)
        assert (plan.asks_provider, plan.registry_values, plan.runs_job) == (True, (VBS,), False)
        assert "2027-01-12" in plan.note
        ended = plan_change(UNENROLL, replace(ARC, enrolled=True), has_provider=True)
        assert (ended.asks_provider, ended.registry_values) == (True, ())

    @given(
        st.sampled_from(HotpatchAction),
        st.builds(
            HotpatchEnrolment,
            st.sampled_from(["hotpatch", "livepatch", "kpatch", "klp"]),
            st.sampled_from(["", "registry", "arc", "pro", "dnf", "suseconnect"]),
            st.sampled_from([True, False, None]),
            st.sampled_from([True, False, None]),
            product=st.sampled_from(["", "20348", "26100"]),
            prerequisites=st.lists(st.sampled_from([NO_VBS, NO_LICENCE, EDITION])).map(tuple),
        ),
        st.booleans(),
    )
    def test_a_plan_does_something_or_says_why_not(
        self, action: HotpatchAction, enrolment: HotpatchEnrolment, has_provider: bool
    ) -> None:
        plan = plan_change(action, enrolment, has_provider=has_provider)
        acts = bool(plan.registry_values or plan.runs_job or plan.asks_provider)
        assert acts == bool(plan.steps)
        assert not (acts and plan.refusal)
        if plan.asks_provider:
            assert has_provider
        if not action.wants_patches:
            assert not plan.registry_values
