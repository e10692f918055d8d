"""Any text and any value, to the readers of configurations, calendars, Azure's JSON and requests.

What comes out is read, or "file:line (or key), what, remedy": never a fault of ours, and never without an end.
"""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from deployments.azure.file_import import import_azure_files, render_configurations
from deployments.checks.configuration_checks import check_configurations
from deployments.checks.controller_checks import check_controller
from deployments.configuration.loader import load_configurations
from deployments.preview.window_calendar import build_calendar
from fleetpatch.cli.request_parsing import build_request, load_request_file
from flows.freezes.calendar_events import parse_events
from flows.request.patch_request import PatchRequest
from flows.request.read_requests import AssessRequest
from inventory.errors import FleetpatchError
from tests.support.fuzzing import ODD, bounded, damaged, fuzzed, judge, paths, put
from tests.unit.config.folder import FLEETS, NOW, TODAY
from tests.unit.config.test_azure import EXAMPLES, azure
from tests.unit.config.test_coming import SEVERAL
from tests.unit.config.test_docs import SMALL, WHOLE, Words
from tests.unit.config.test_ical import OUTLOOK, SINCE, UNTIL, calendar

TREES = [yaml.load(text, Loader=Words) for text in (SMALL, WHOLE, SEVERAL)]
KEYS = (
    "name: ",
    "scope: '*'",
    "window: ",
    "freezes:\n- ",
    "machine",
    "Week Sunday",
    "* * * * *",
    "file: x.ics",
    "|",
    ">",
    "---",
    "2h",
    "99999d",
)
CALENDARS = (
    calendar(
        "UID:1\nSUMMARY:Closing\nDTSTART;TZID=Europe/Berlin:20261130T180000\nDTEND;TZID=Europe/Berlin:20261201T060000\n"
        "RRULE:FREQ=MONTHLY;INTERVAL=3;BYDAY=-1MO;UNTIL=20281231T000000Z\nEXDATE;TZID=Europe/Berlin:20270531T180000",
        "UID:1\nRECURRENCE-ID;TZID=Europe/Berlin:20270222T180000\nDTSTART:20270223T120000Z\nDURATION:P1DT2H\nSEQUENCE:2",
    ),
    calendar(
        'SUMMARY:Audit\\, all\nDTSTART;TZID="Customized Time Zone":20260101T100000\nDURATION:PT1H\n'
        "RRULE:FREQ=YEARLY;COUNT=9",
        "DTSTART;VALUE=DATE:20261224\nRDATE;VALUE=DATE:20261231,20270106\nSTATUS:CONFIRMED",
        before=OUTLOOK.format("Customized Time Zone"),
    ),
)
PARTS = (
    *(
        "RRULE:FREQ=DAILY\r\n",
        "COUNT=99999",
        "INTERVAL=0",
        "BYMONTH=13",
        "BYDAY=53MO",
        "BYHOUR=0,1,2,3,4,5",
        "BYSETPOS=-1",
    ),
    *("TZID=", "19000101", "00010101T000000Z", "99991231T235959", "P999999W", "-PT1H", "+2359", ",", ";", ":", "\r\n "),
    *("BEGIN:VEVENT\r\n", "END:VEVENT\r\n", "BEGIN:VTIMEZONE\r\n", "DTSTART:", "FREQ=YEARLY;BYMONTHDAY=30;BYMONTH=2"),
)
REQUEST = json.loads(PatchRequest(scope="env=prod").model_dump_json())
REQUESTS = (yaml.safe_dump(REQUEST, sort_keys=False), json.dumps(REQUEST, indent=1))
JSONS = tuple(file.read_text() for file in sorted(EXAMPLES.glob("*.json")))

AnyPath = tuple[str | int, ...]
Change = tuple[AnyPath, Any]


def kept(read: Callable[[Path], object], text: str, name: str) -> None:
    """Write a file, have it read within its limits, and look at how it was refused, if it was."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            with bounded():
                read(file)
        except FleetpatchError as error:
            judge(error, name)


def changed(tree: Any, changes: list[Change]) -> Any:
    for path, value in changes:
        tree = put(tree, path, value)
    return tree


def read_configurations(file: Path) -> None:
    found = load_configurations(file, TODAY)
    assert isinstance(check_configurations(found, FLEETS, NOW), tuple)
    assert isinstance(check_controller(found), tuple)
    assert build_calendar(found, FLEETS, NOW, 3).now == NOW
    for one in found.all_configurations:
        PatchRequest.model_validate(json.loads(json.dumps(one.build_request("UTC").model_dump(mode="json"))))


def read_imported(file: Path) -> None:
    imported = import_azure_files([file], "*")
    if imported.configurations:
        render_configurations(imported, None)


def read_request(file: Path) -> None:
    tree = load_request_file(file)
    asked = build_request(PatchRequest, tree, file)
    assert asked.scope
    asked.waves.to_wave_policy()


@fuzzed()
@given(damaged((SMALL, WHOLE, SEVERAL), KEYS))
def test_a_damaged_configuration(text: str) -> None:
    kept(read_configurations, text, "any.yaml")


@fuzzed()
@given(
    st.sampled_from(TREES).flatmap(
        lambda tree: st.tuples(
            st.just(tree), st.lists(st.tuples(st.sampled_from(paths(tree)[1:]), ODD), min_size=1, max_size=3)
        )
    )
)
def test_any_value_in_a_configuration(asked: tuple[Any, list[Change]]) -> None:
    kept(read_configurations, json.dumps(changed(*asked)), "any.json")


@fuzzed(2)
@given(damaged(CALENDARS, PARTS))
def test_a_damaged_calendar(text: str) -> None:
    try:
        with bounded():
            parse_events(text, SINCE, UNTIL)
    except FleetpatchError as error:
        judge(error)


@fuzzed()
@given(damaged(JSONS, ('"properties": ', "[", "{", '"maintenanceWindow"', "null", '"\\ud800"', "1e999", "9" * 10_000)))
def test_damaged_json_of_azure(text: str) -> None:
    kept(read_imported, text, "any.json")


@fuzzed()
@given(st.lists(st.tuples(st.sampled_from(paths(azure())[1:]), ODD), min_size=1, max_size=3))
def test_any_value_in_json_of_azure(changes: list[Change]) -> None:
    kept(read_imported, json.dumps(changed(azure(), changes)), "any.json")


@fuzzed()
@given(
    damaged(REQUESTS, ("window: {", "scope: ", "[]", "-1", "9999-12-31T23:59:59+14:00")),
    st.sampled_from(("r.yaml", "r.json")),
)
def test_a_damaged_request(text: str, name: str) -> None:
    kept(read_request, text, name)


@fuzzed(2)
@given(st.lists(st.tuples(st.sampled_from(paths(REQUEST)[1:]), ODD), min_size=1, max_size=3))
def test_any_value_in_a_request(changes: list[Change]) -> None:
    """As Prefect's form, a schedule's parameters or a Python call give them."""
    tree = changed(REQUEST, changes)
    for kind in (PatchRequest, AssessRequest):
        try:
            with bounded():
                build_request(kind, tree)
        except FleetpatchError as error:
            judge(error)
