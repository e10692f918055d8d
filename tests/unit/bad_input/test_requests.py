"""Requests as Python, forms and files give them: what makes no sense is refused with its key, and nothing else is."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetpatch.cli.request_parsing import build_request, load_request_file
from flows.request.patch_request import PatchRequest
from flows.request.read_requests import AssessRequest
from tasks.domain.errors import RequestError
from tasks.rules.updates.selection import select_updates
from tests.support.builders import at, make_package_state, make_update
from tests.unit.bad_input.conftest import Refused

WHEN = "2026-11-21 02:00"
NOT_MINUTES: list[object] = [0, -1, float("nan"), float("inf"), 10**400, 44641, True, [], "two"]
NOT_WHEN: list[object] = [True, "", "soon", float("nan"), 1e300, "2026-02-30", {}]
NAN, INFINITE, ENDLESS = float("nan"), float("inf"), 10**400

FORMS: list[tuple[dict[str, Any], str]] = [
    ({"scope": ""}, "scope"),
    ({"scope": 5}, "scope"),
    ({"scope": None}, "scope"),
    ({"scope": ["web"]}, "scope"),
    ({"scope": "\ud800"}, "scope"),
    ({"scope": "x" * 2001}, "scope"),
    ({"inventory": 5}, "inventory"),
    ({"inventory": "a\x00b"}, "inventory"),
    ({"nonsense": 1}, "nonsense"),
    ({"window": None}, "window"),
    ({"window": []}, "window"),
    ({"window": "120"}, "window"),
    ({"window": {"minuts": 5}}, "window.minuts"),
    *(({"window": {"minutes": bad}}, "--minutes") for bad in NOT_MINUTES),
    *(({"window": {"start": bad}}, "--start") for bad in NOT_WHEN),
    ({"window": {"zone": "x" * 65}}, "--zone"),
    ({"window": {"zone": 5}}, "--zone"),
    ({"waves": {"canary_count": -1}}, "--canary"),
    ({"waves": {"canary_count": True}}, "--canary"),
    ({"waves": {"canary_percent": NAN}}, "--canary"),
    ({"waves": {"canary_percent": 100.1}}, "--canary"),
    *(({"waves": {"size": bad}}, "--wave-size") for bad in (0, 10_001, 1.5, True, "many", ENDLESS)),
    *(({"waves": {"percent": bad}}, "--wave-percent") for bad in (0, 101, NAN, False)),
    *(({"waves": {"at_once": bad}}, "--at-once") for bad in (0, 501, ENDLESS, True)),
    ({"waves": {"pause_minutes": NAN}}, "--pause"),
    ({"waves": {"failure_budget_count": -1}}, "--failure-budget"),
    ({"waves": {"failure_budget_percent": 101}}, "--failure-budget"),
    ({"waves": {"keep_locations_apart": "perhaps"}}, "waves.keep_locations_apart"),
    ({"updates": {"classifications": ["Urgent"]}}, "--classification"),
    ({"updates": {"classifications": "Security"}}, "--classification"),
    ({"updates": {"include": ["ok", ""]}}, "--include"),
    ({"updates": {"include": ["  "]}}, "--include"),
    ({"updates": {"include": "nginx"}}, "--include"),
    ({"updates": {"include": [5]}}, "--include"),
    ({"updates": {"exclude": ["x" * 201]}}, "--exclude"),
    ({"updates": {"exclude": ["x"] * 501}}, "--exclude"),
    ({"updates": {"published_before": "soon"}}, "--published-before"),
    ({"reboot": "sometimes"}, "--reboot"),
    ({"reboot": None}, "--reboot"),
    ({"reboot_reserve_minutes": 241}, "--reserve"),
    ({"reboot_reserve_minutes": NAN}, "--reserve"),
    ({"max_reboots": 11}, "--max-reboots"),
    ({"max_reboots": 2.5}, "--max-reboots"),
    ({"going_down_minutes": 0}, "going_down_minutes"),
    ({"coming_up_minutes": INFINITE}, "coming_up_minutes"),
    ({"come_back_seconds": -1}, "come_back_seconds"),
    ({"come_back_seconds": True}, "come_back_seconds"),
    ({"assess_at_once": 0}, "assess_at_once"),
    ({"dry_run": 2}, "dry_run"),
    ({"dry_run": None}, "dry_run"),
    ({"stage": []}, "stage"),
    ({"report_formats": ["pdf"]}, "report_formats.0"),
    ({"report_directory": "a\x00b"}, "--report"),
]

OPEN_LATER: list[tuple[dict[str, Any], str]] = [
    ({"zone": "Europe/Berlim"}, "no time zone"),
    ({"zone": "/etc/localtime"}, "no time zone"),
    ({"zone": "\x00"}, "no time zone"),
    ({"start": "2026-03-29T02:30", "zone": "Europe/Berlin"}, "does not exist in Europe/Berlin"),
    ({"start": "2026-03-08T02:30", "zone": "America/New_York"}, "does not exist"),
    ({"start": "2011-12-30T12:00", "zone": "Pacific/Apia"}, "does not exist"),
    ({"start": 5}, "too far in the future"),
    ({"start": "9999-12-31T23:59Z"}, "too far in the future"),
    ({"start": "9999-12-31T23:30Z", "zone": "Asia/Tokyo", "minutes": 5}, "too far in the future"),
    ({"start": "0001-01-01T00:00Z", "zone": "America/New_York"}, "too far in the future"),
    ({"start": "2062-01-01T00:00Z"}, "too far in the future"),
]

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

FILES: list[tuple[str, bytes, str]] = [
    ("x.yaml", b"", "contains no request"),
    ("x.yaml", b"# nothing\n", "contains no request"),
    ("x.yaml", b"- web\n", "contains no request"),
    ("x.yaml", b"web\n", "contains no request"),
    ("x.yaml", b"scope: web\nwindow: {minuts: 5}\n", "window.minuts"),
    ("x.yaml", b"scope: web\nwindow: {minutes: yes}\n", "--minutes"),
    ("x.yaml", b"scope: web\nwindow: {minutes: .inf}\n", "--minutes"),
    ("x.yaml", b"scope: web\nscope: db\n", "x.yaml:2: scope: the key 'scope' stands here twice"),
    ("x.yaml", b"scope: web\nwindow: {minutes: 5, minutes: 6}\n", "x.yaml:2: window.minutes"),
    ("x.yaml", b"scope: web\n---\nscope: db\n", "x.yaml:"),
    ("x.yaml", b"scope: web\n1: 2\n", "1: extra inputs"),
    ("x.yaml", b"scope: web\n[a]: 2\n", "a key must be plain text"),
    ("x.yaml", b"scope: web\nupdates: {include: [!!python/name:os.system ]}\n", "is not allowed here"),
    ("x.yaml", b"scope: !!python/object/apply:os.system [id]\n", "not allowed here"),
    ("x.yaml", b"scope: &a [*a]\n", "contains itself"),
    ("x.yaml", BOMB.encode(), "aliases make this file larger"),
    ("x.yaml", b"scope: " + b"[" * 5000, "nests deeper"),
    ("x.yaml", b"scope: " + b"{a: " * 200 + b"b" + b"}" * 200, "nests deeper"),
    ("x.yaml", b"scope: web\n\twindow: {}\n", "no valid YAML"),
    ("x.yaml", b"scope: [web\n", "no valid YAML"),
    ("x.yaml", b"scope: web\x00\n", "no valid YAML"),
    ("x.yaml", bytes(range(256)), "no UTF-8"),
    ("x.yaml", "scope: web\n".encode("utf-16"), "no UTF-8"),
    ("x.yaml", b'scope: web\n"\\e[2Jx": 1\n', "extra inputs"),
    ("x.yaml", b"scope: web\n" + b"".join(b"k%d: 1\n" % n for n in range(500)), "and 490 more"),
    ("x.yaml", b"scope: web\n# " + b"x" * 10_500_000, "larger than 10 MiB"),
    ("x.yaml", b"scope: web\nmax_reboots: " + b"9" * 5000, "--max-reboots"),
    ("x.json", b"", "not valid JSON"),
    ("x.json", b"{", "line 1"),
    ("x.json", b"[]", "contains no request"),
    ("x.json", b"null", "contains no request"),
    ("x.json", b'{"scope": "web", "scope": "db"}', "'scope' is given twice"),
    ("x.json", b'{"scope": "web", "window": {"minutes": NaN}}', "--minutes"),
    ("x.json", b'{"scope": "web", "window": {"minutes": 1e999}}', "--minutes"),
    ("x.json", b'{"scope": "web", "max_reboots": ' + b"9" * 5000 + b"}", "not valid JSON"),
    ("x.json", b'{"scope": "\\ud800"}', "scope"),
    ("x.json", b"[" * 100_000, "nests too deeply"),
    ("x.json", b'{"scope":' * 5000 + b"1" + b"}" * 5000, "nests too deeply"),
    ("x.json", b"\xff\xfe{}", "no UTF-8"),
]


def fault_of(ask: Callable[[], object]) -> RequestError | None:
    try:
        ask()
    except RequestError as error:
        return error
    return None


@pytest.mark.parametrize(("given_", "told"), FORMS)
def test_a_form(given_: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError) as caught:
        build_request(PatchRequest, {"scope": "*", **given_})
    assert told in caught.value.message
    assert len(caught.value.message) < 1000
    assert caught.value.hint


@pytest.mark.parametrize(("given_", "told"), OPEN_LATER)
def test_a_window_that_no_calendar_has(given_: dict[str, Any], told: str) -> None:
    from tasks.rules.timing.maintenance_window import build_window

    asked = build_request(PatchRequest, {"scope": "*", "window": given_}).window
    with pytest.raises(RequestError, match=told) as caught:
        build_window(asked.start, asked.minutes, asked.zone, at(0))
    assert caught.value.hint


def test_an_assessment_has_bounds_too() -> None:
    faulty: list[dict[str, object]] = [{"at_once": 0}, {"at_once": True}, {"refresh": "perhaps"}, {"window": {}}]
    for bad in faulty:
        with pytest.raises(RequestError) as caught:
            build_request(AssessRequest, {"scope": "*", **bad})
        assert next(iter(bad)) in caught.value.message


@pytest.mark.parametrize(("name", "content", "told"), FILES)
def test_a_request_file(refused: Refused, tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    said = refused("plan", "--request", name, told=told)
    assert name in said.err


def test_a_folder_is_no_request(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").mkdir()
    refused("plan", "--request", "x.yaml", told="directory")


@pytest.mark.parametrize("name", ["x.yaml", "x.json"])
def test_what_makes_sense_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    request = {
        "scope": "web",
        "window": {"minutes": 30, "start": WHEN},
        "dry_run": True,
        "waves": {"size": 1},
    }
    path.write_text(json.dumps(request), encoding="utf-8-sig")
    read = build_request(PatchRequest, load_request_file(path), path)
    assert read == PatchRequest.model_validate(request)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.sampled_from(["x.yaml", "x.json", "x"]))
def test_any_bytes_are_a_request_or_an_error(content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        fault = fault_of(lambda: build_request(PatchRequest, load_request_file(path), path))
    assert fault is None or (str(path) in fault.message and fault.hint)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from([*PatchRequest.model_fields, "x"]), JSON, max_size=4))
def test_any_data_are_a_request_or_an_error(tree: dict[str, object]) -> None:
    def ask() -> None:
        request = build_request(PatchRequest, {"scope": "*", **tree})
        request.waves.to_wave_policy()
        request.to_patch_options()

    fault = fault_of(ask)
    assert fault is None or fault.hint


def test_a_limit_of_publication_without_an_offset_is_read_in_the_windows_zone() -> None:
    asked = {"published_before": "2026-03-10T02:00"}
    request = build_request(PatchRequest, {"scope": "*", "updates": asked, "window": {"zone": "Europe/Berlin"}})
    states = [
        select_updates(
            make_package_state(updates=(make_update(published=at(seconds)),)), request.to_patch_options().selection
        )[0]
        for seconds in (0, 1)  # 01:00 UTC is 02:00 in Berlin
    ]
    assert [len(chosen) for chosen in states] == [1, 0]
