"""What a run of a configuration is asked, and by whose clocks its windows open."""

from datetime import UTC, datetime

import pytest

from deployments.configuration.file_format import SHARED_FIELDS, ConfigurationForm
from flows.request.patch_request import PatchRequest
from flows.request.request_parts import FreezeRequest
from inventory.errors import EmptyScopeError
from inventory.scope import Scope
from tasks.domain.states import Classification, RebootPolicy, Severity
from tasks.rules.calendar.schedule import iterate_occurrences
from tests.unit.config.folder import FLEET, WEEKLY, Folder, wall

FULL = """\
name: web
scope: env=prod,group=web
machines: [db-1, tok-1]
tags: [a, b, a]
updates: {classifications: [Other], include: [KB5034441], exclude: ["docker-*"], exclude_requiring_reboot: true,
          severities: [important, Low], published_before: 2027-06-01, as_in_run: "last:web"}
window: {start: 2026-12-12 22:00, length: "03:55", zone: W. Europe Standard Time, expires: 2027-12-31,
         recurrence: Month Second Tuesday Offset4}
lead: 40
stage_ahead: 2h
reboot: Never
waves: {canary_count: 1, failure_budget_count: 2}
hooks: {before_run: [{name: x, kind: http, target: "https://a.example"}]}
approval: {required: true, changed: refuse}
announce: {enabled: true, notice_minutes: 20, approval: any}
snapshot: {take: before, keep_days: 5, revert_on_failure: true, patch_without: true, with_data_disks: true}
rehearse: {on_copies: true, strict: false, at_most: 3}
notify: [{to: "env:CHAT", on: [failed]}]
freezes: [{date: 2026-12-24, reason: eve}]
reboot_if_live_patched: false
live_patched_reboot_days: 30
reboot_pending_first: true
native_updaters: pause
patched_by_others: skip
restart_services: Never
restart_services_exclude: [postgresql*]
reboot_reserve_minutes: 20
max_reboots: 1
going_down_minutes: 11
coming_up_minutes: 31
allow_removals: true
keep_previous: true
reboot_with_passphrase: true
remove_unused_kernels: true
accept_licences: true
repair: true
stage: true
refresh: false
settle_seconds: 50
come_back_seconds: 60
assess_at_once: 9
report_formats: [csv]
"""


def test_a_run_is_asked_everything(folder: Folder) -> None:
    one = folder.one(FULL)
    asked = one.build_request()
    assert asked.configuration == "web"
    assert asked.scope == "env=prod,group=web or name=db-1|tok-1"
    assert (asked.window.start, asked.window.minutes, asked.window.zone) == (None, 235, "Europe/Berlin")
    assert asked.window.lead_minutes == 40
    assert asked.freezes == [FreezeRequest(start=wall("2026-12-24"), end=wall("2026-12-25"), reason="eve")]
    assert asked.updates.classifications == [Classification.OTHER]
    assert asked.updates.severities == [Severity.IMPORTANT, Severity.LOW]
    assert asked.reboot is RebootPolicy.NEVER
    for name in SHARED_FIELDS:
        assert getattr(asked, name) == getattr(one.form, name)
        if name not in {"stage", "report_directory"}:
            assert getattr(asked, name) != PatchRequest.model_fields[name].get_default(), f"{name} is as if not given"


def test_no_question_of_a_run_is_left_out() -> None:
    """Whoever adds a field to the request sees here that configurations need it."""
    otherwise = {"scope", "inventory", "window", "freezes", "configuration", "maintenance"}
    not_of_windows = {
        "component",
        "component_version",
        "dry_run",
        "download_only",
        "outside_window",
        "only_machines",
        "override_freeze",
        "roll_back",
        "shard",
        "shard_limits",
        "undo_by",
        "undo_of",
        "undo_unreachable",
    }
    assert set(PatchRequest.model_fields) - set(SHARED_FIELDS) - otherwise - not_of_windows == set()


def test_what_is_taken_over_is_the_same() -> None:
    for name in SHARED_FIELDS:
        ours, theirs = ConfigurationForm.model_fields[name], PatchRequest.model_fields[name]
        assert (ours.annotation, ours.metadata, ours.description) == (
            theirs.annotation,
            theirs.metadata,
            theirs.description,
        )
        assert ours.get_default() == theirs.get_default()


def test_a_request_is_the_same_after_json(folder: Folder) -> None:
    asked = folder.one(FULL).build_request()
    assert PatchRequest.model_validate_json(asked.model_dump_json()) == asked


def test_its_windows(folder: Folder) -> None:
    one = folder.one(FULL)
    (schedule,) = [each.schedule for each in one.build_scheduled_requests(FLEET)]
    first, second = iterate_occurrences(schedule, datetime(2026, 11, 1, tzinfo=UTC), limit=2)
    assert first.start == datetime(2026, 12, 12, 21, tzinfo=UTC)
    assert first.end == datetime(2026, 12, 13, 0, 55, tzinfo=UTC)
    assert second.local_start == wall("2027-01-16 22:00")
    assert schedule.expires == wall("2028-01-01")
    assert (one.tags, one.stage_ahead_minutes, one.form.window.expires) == (("a", "b"), 120, wall("2028-01-01"))


def test_static_machines_stand_beside_the_scope(folder: Folder) -> None:
    assert [machine.name for machine in folder.one(FULL).select_machines(FLEET)] == ["web-1", "web-2", "db-1", "tok-1"]
    alone = folder.one(f"name: a\nmachines: [db-1]\n{WEEKLY}\n")
    assert [machine.name for machine in alone.select_machines(FLEET)] == ["db-1"]


def test_each_machines_own_zone(folder: Folder) -> None:
    window = "{start: 2026-12-06 02:00, length: 1h, zone: machine}"
    one = folder.one(f"name: a\nscope: env=shop or env=prod\nmachines: [web-1]\nwindow: {window}\n")
    openings = one.build_scheduled_requests(FLEET)
    assert [opening.zone for opening in openings] == ["America/New_York", "Asia/Tokyo", "Europe/Berlin"]
    assert [opening.slug for opening in openings] == ["a@america-new-york", "a@asia-tokyo", "a@europe-berlin"]
    assert [next(iterate_occurrences(o.schedule, datetime(2026, 1, 1, tzinfo=UTC))).start.hour for o in openings] == [
        7,
        17,
        1,
    ]
    selected = [[m.name for m in Scope.parse(o.request.scope).select_machines(FLEET)] for o in openings]
    assert selected == [["nyc-1"], ["tok-1"], ["web-1", "web-2", "db-1"]]
    assert [o.request.window.zone for o in openings] == [o.zone for o in openings]


def test_openings_of_no_machine_are_an_error_only_where_machines_say_when(folder: Folder) -> None:
    fixed = folder.one(f"name: a\nscope: env=none\n{WEEKLY}\n")
    assert [opening.slug for opening in fixed.build_scheduled_requests(FLEET)] == ["a"]
    own = folder.one("name: a\nscope: env=none\nwindow: {start: 2026-12-06, length: 1h, zone: machine}\n")
    with pytest.raises(EmptyScopeError):
        own.build_scheduled_requests(FLEET)


def test_freezes_are_read_by_the_windows_clocks(folder: Folder) -> None:
    one = folder.one(f"name: a\nscope: '*'\nfreezes: [{{date: 2026-12-24}}]\n{WEEKLY}\n")
    assert one.build_freezes("Asia/Tokyo")[0].start == datetime(2026, 12, 23, 15, tzinfo=UTC)
    assert one.build_freezes("Europe/Berlin")[0].end == datetime(2026, 12, 24, 23, tzinfo=UTC)


def test_a_configuration_that_is_off_is_kept(folder: Folder) -> None:
    found = folder.read(f"name: a\nscope: '*'\nenabled: no\n{WEEKLY}\n")
    assert [one.name for one in found.all_configurations] == ["a"]
    assert found.enabled_configurations == ()
