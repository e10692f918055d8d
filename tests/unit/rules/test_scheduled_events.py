"""Scheduled events: the document in each version, approvals, and the order of statuses."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.scheduled_events import (
    ApprovalRule,
    EventApproval,
    EventDocument,
    EventSource,
    EventStatus,
    EventType,
    ScheduledEvent,
)
from tasks.rules.scheduled_events import (
    API_VERSIONS,
    MAX_START_REQUESTS,
    NEWEST_VERSION,
    MalformedStartRequest,
    build_document,
    build_event_id,
    compute_events_digest,
    compute_not_before,
    compute_notice_left,
    is_told,
    list_missing_approvals,
    may_begin,
    may_change,
    parse_incarnation,
    parse_start_requests,
)

NOW = datetime(2026, 11, 28, 2, 0, tzinfo=UTC)
ID = "f020ba2e-3bc0-4c40-a10b-86575a9eabd5"
SCHEDULED, STARTED, COMPLETED, CANCELED = EventStatus
NAMES = st.sampled_from(["vm-0", "vm-1", "vm-2"])
TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone follows


def announced(
    *resources: str,
    status: EventStatus = SCHEDULED,
    event_type: EventType = EventType.REBOOT,
    rule: ApprovalRule = ApprovalRule.ALL,
    approvals: Sequence[EventApproval] = (),
    not_before: datetime = NOW + timedelta(minutes=15),
) -> ScheduledEvent:
    names = resources or ("vm-0",)
    return ScheduledEvent(
        id=ID,
        run_id="run-1",
        act="reboot/0",
        event_type=event_type,
        resources=names,
        audience=names,
        not_before=not_before,
        expires_at=NOW + timedelta(hours=4),
        announced_at=NOW,
        description="Updates need a reboot.",
        source=EventSource.USER,
        rule=rule,
        duration_seconds=120,
        status=status,
        approvals=tuple(approvals),
    )


def approved_by(*machines: str) -> list[EventApproval]:
    return [EventApproval(machine, "", NOW) for machine in machines]


EVENTS = st.builds(
    announced,
    NAMES,
    status=st.sampled_from([SCHEDULED, STARTED]),
    event_type=st.sampled_from(EventType),
    not_before=TIMES,
)


class TestDocument:
    def test_the_newest_version_is_azures_document(self) -> None:
        assert build_document(EventDocument("vm-0", 5, (announced(),)), "2020-07-01") == {
            "DocumentIncarnation": 5,
            "Events": [
                {
                    "EventId": ID,
                    "EventType": "Reboot",
                    "ResourceType": "VirtualMachine",
                    "Resources": ["vm-0"],
                    "EventStatus": "Scheduled",
                    "NotBefore": "Sat, 28 Nov 2026 02:15:00 GMT",
                    "Description": "Updates need a reboot.",
                    "EventSource": "User",
                    "DurationInSeconds": 120,
                }
            ],
        }

    def test_a_started_event_has_no_time_any_more(self) -> None:
        (event,) = build_document(EventDocument("vm-0", 6, (announced(status=STARTED),)), NEWEST_VERSION)["Events"]

        assert (event["EventStatus"], event["NotBefore"]) == ("Started", "")

    def test_without_events_the_list_is_empty(self) -> None:
        assert build_document(EventDocument("vm-0", 7, ()), "2017-08-01") == {"DocumentIncarnation": 7, "Events": []}

    @pytest.mark.parametrize(
        ("version", "later"),
        [
            ("2017-03-01", set()),
            ("2017-08-01", set()),
            ("2017-11-01", set()),
            ("2019-01-01", set()),
            ("2019-04-01", {"Description"}),
            ("2019-08-01", {"Description", "EventSource"}),
            ("2020-07-01", {"Description", "EventSource", "DurationInSeconds"}),
        ],
    )
    def test_an_older_version_leaves_later_fields_out(self, version: str, later: set[str]) -> None:
        (event,) = build_document(EventDocument("vm-0", 1, (announced(),)), version)["Events"]

        first = {"EventId", "EventType", "ResourceType", "Resources", "EventStatus", "NotBefore"}
        assert set(event) == first | later
        assert event["Resources"] == ["_vm-0" if version == "2017-03-01" else "vm-0"]

    @pytest.mark.parametrize(
        ("event_type", "first"),
        [
            (EventType.FREEZE, "2017-03-01"),
            (EventType.REBOOT, "2017-03-01"),
            (EventType.REDEPLOY, "2017-03-01"),
            (EventType.PREEMPT, "2017-11-01"),
            (EventType.TERMINATE, "2019-01-01"),
        ],
    )
    def test_a_version_has_the_types_that_its_programs_know(self, event_type: EventType, first: str) -> None:
        document = EventDocument("vm-0", 1, (announced(event_type=event_type),))

        assert {name: len(build_document(document, name)["Events"]) for name in API_VERSIONS} == {
            name: int(name >= first) for name in API_VERSIONS
        }

    @given(st.lists(EVENTS, max_size=4), st.integers(1, 2**53), st.sampled_from(list(API_VERSIONS)))
    def test_every_document_is_json_with_integers_and_times_that_programs_parse(
        self, events: list[ScheduledEvent], incarnation: int, version: str
    ) -> None:
        read = json.loads(json.dumps(build_document(EventDocument("vm-0", incarnation, tuple(events)), version)))

        assert read["DocumentIncarnation"] == incarnation
        for event in read["Events"]:
            if event["EventStatus"] == "Scheduled":
                assert event["NotBefore"].endswith(" GMT")
                assert parsedate_to_datetime(event["NotBefore"]).tzinfo is not None
            assert type(event.get("DurationInSeconds", 0)) is int

    def test_an_approval_does_not_change_what_is_told(self) -> None:
        event = announced()

        assert compute_events_digest([event]) == compute_events_digest(
            [replace(event, approvals=tuple(approved_by("vm-0")))]
        )

    @pytest.mark.parametrize(
        "other",
        [
            announced(status=STARTED),
            announced("vm-1"),
            announced(event_type=EventType.FREEZE),
            announced(not_before=NOW + timedelta(minutes=16)),
        ],
    )
    def test_every_other_change_has_another_digest(self, other: ScheduledEvent) -> None:
        assert compute_events_digest([announced()]) != compute_events_digest([other])


class TestIds:
    def test_an_act_of_a_run_has_one_id_and_an_announcement_after_it_was_withdrawn_another(self) -> None:
        first = build_event_id("run-1", ["vm-0"], "reboot/0", 0)

        assert first == build_event_id("run-1", ["vm-0"], "reboot/0", 0)
        assert len({first, build_event_id("run-1", ["vm-0"], "reboot/0", 1)}) == 2
        assert len({first, build_event_id("run-1", ["vm-1"], "reboot/0", 0)}) == 2
        assert len({first, build_event_id("run-2", ["vm-0"], "reboot/0", 0)}) == 2
        assert len({first, build_event_id("run-1", ["vm-0"], "reboot/1", 0)}) == 2


class TestApprovals:
    @pytest.mark.parametrize(
        ("rule", "approvals", "missing"),
        [
            (ApprovalRule.ALL, approved_by(), ("vm-0", "vm-1")),
            (ApprovalRule.ALL, approved_by("vm-0"), ("vm-1",)),
            (ApprovalRule.ALL, approved_by("vm-2"), ("vm-0", "vm-1")),
            (ApprovalRule.ALL, approved_by("vm-0", "vm-1"), ()),
            (ApprovalRule.ANY, approved_by(), ("vm-0", "vm-1")),
            (ApprovalRule.ANY, approved_by("vm-2"), ()),
            (ApprovalRule.ALL, [EventApproval("", "anna", NOW)], ()),
        ],
    )
    def test_the_rule_says_whose_approval_is_missing(
        self, rule: ApprovalRule, approvals: list[EventApproval], missing: tuple[str, ...]
    ) -> None:
        event = announced("vm-0", "vm-1", rule=rule, approvals=approvals)

        assert list_missing_approvals(event) == missing
        assert may_begin(event, NOW) == (not missing)

    def test_not_before_begins_anyway(self) -> None:
        event = announced()

        assert not may_begin(event, event.not_before - timedelta(seconds=1))
        assert may_begin(event, event.not_before)

    @pytest.mark.parametrize("status", [COMPLETED, CANCELED])
    def test_one_that_is_over_never_begins(self, status: EventStatus) -> None:
        event = announced(status=status, approvals=approved_by("vm-0"))

        assert not may_begin(event, event.not_before + timedelta(days=1))
        assert not is_told(event, NOW)

    @given(st.lists(NAMES, max_size=5), st.sampled_from(ApprovalRule))
    def test_one_more_approval_never_makes_more_missing(self, machines: list[str], rule: ApprovalRule) -> None:
        missing = [
            set(list_missing_approvals(announced("vm-0", "vm-1", rule=rule, approvals=approved_by(*machines[:count]))))
            for count in range(len(machines) + 1)
        ]

        assert all(later <= earlier for earlier, later in pairwise(missing))

    def test_it_is_told_until_it_expires(self) -> None:
        event = announced(status=STARTED)

        assert is_told(event, event.expires_at - timedelta(seconds=1))
        assert not is_told(event, event.expires_at)


class TestTimes:
    @given(TIMES, st.floats(0, 7 * 86400), st.none() | TIMES)
    def test_the_notice_is_never_shorter_than_promised_and_has_whole_seconds(
        self, now: datetime, notice: float, earliest: datetime | None
    ) -> None:
        moment = compute_not_before(now, notice, earliest)

        assert moment.microsecond == 0
        wanted = now + timedelta(seconds=notice)
        wanted = max(wanted, earliest) if earliest else wanted
        assert wanted - timedelta(microseconds=2) <= moment < wanted + timedelta(seconds=1.001)

    def test_what_is_left_of_the_notice_counts_down_and_ends_with_the_approval(self) -> None:
        event = announced()

        assert compute_notice_left(None, NOW, 900) == 900
        assert compute_notice_left(event, NOW + timedelta(minutes=5), 900) == 600
        assert compute_notice_left(event, NOW + timedelta(hours=1), 900) == 0
        assert compute_notice_left(announced(approvals=approved_by("vm-0")), NOW, 900) == 0
        assert compute_notice_left(announced(status=STARTED), NOW, 900) == 0


class TestStatuses:
    def test_only_these_changes_are_made(self) -> None:
        allowed = {
            (before, after)
            for before in EventStatus
            for after in EventStatus
            if may_change(announced(status=before), after)
        }

        assert allowed == {(SCHEDULED, STARTED), (SCHEDULED, CANCELED), (STARTED, COMPLETED)}

    @given(st.lists(st.sampled_from(EventStatus), max_size=8))
    def test_whatever_is_asked_for_an_event_never_comes_back(self, wishes: list[EventStatus]) -> None:
        event, past = announced(), [SCHEDULED]
        for wish in wishes:
            if may_change(event, wish):
                event = replace(event, status=wish)
                past.append(wish)

        assert len(set(past)) == len(past)
        assert past in ([SCHEDULED], [SCHEDULED, STARTED], [SCHEDULED, CANCELED], [SCHEDULED, STARTED, COMPLETED])


class TestIncarnations:
    @pytest.mark.parametrize(
        ("text", "number"),
        [
            ('{"DocumentIncarnation": 7, "Events": []}', 7),
            ('{"DocumentIncarnation": 1000000000}', 10**9),
            ('{"DocumentIncarnation": 1000000001}', 0),
            ('{"DocumentIncarnation": -7}', 0),
            ('{"DocumentIncarnation": true}', 0),
            ('{"DocumentIncarnation": 7.5}', 0),
            ('{"DocumentIncarnation": "7"}', 0),
            ("[7]", 0),
            ("", 0),
            ("[" * 100_000, 0),
        ],
    )
    def test_only_a_document_says_how_far_it_is(self, text: str, number: int) -> None:
        assert parse_incarnation(text) == number


class TestStartRequests:
    def test_the_ids_are_read_each_once(self) -> None:
        other = "11111111-2222-3333-4444-555555555555"
        body = {"StartRequests": [{"EventId": ID.upper()}, {"EventId": other, "More": 1}, {"EventId": ID}], "x": 2}

        assert parse_start_requests(json.dumps(body).encode()) == (ID, other)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'"x"',
            b"{}",
            b'{"StartRequests": {}}',
            b'{"StartRequests": []}',
            b'{"StartRequests": [1]}',
            b'{"StartRequests": [{}]}',
            b'{"StartRequests": [{"EventId": 5}]}',
            b'{"StartRequests": [{"EventId": "x"}]}',
            b'{"StartRequests": [{"EventId": "' + b"a" * 10_000 + b'"}]}',
            b"[" * 200_000,
            b"\xff\xfe",
            json.dumps({"StartRequests": [{"EventId": ID}] * (MAX_START_REQUESTS + 1)}).encode(),
        ],
    )
    def test_anything_else_is_malformed(self, body: bytes) -> None:
        with pytest.raises(MalformedStartRequest):
            parse_start_requests(body)

    @given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
    def test_no_bytes_raise_anything_else(self, body: bytes) -> None:
        with pytest.raises(MalformedStartRequest):
            parse_start_requests(body)
