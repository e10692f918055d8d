"""From options to a request: nothing given means nothing said, and every option reaches its field."""

from typing import Any

import pytest
from pydantic import BaseModel

from fleetpatch.cli.request_options import PATCH_OPTIONS
from fleetpatch.cli.request_parsing import build_patch_request, build_request, merge_trees, remove_unset_values
from flows.request.patch_request import PatchRequest
from tasks.domain.errors import RequestError
from tasks.domain.states import Classification, RebootPolicy


def _options(**changes: Any) -> dict[str, Any]:
    return {**dict.fromkeys(PATCH_OPTIONS), "scope": "*", **changes}


def test_nothing_given_is_the_default_request() -> None:
    assert build_patch_request(_options()) == PatchRequest(scope="*")


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        ({"classification": [Classification.OTHER]}, "updates.classifications", [Classification.OTHER]),
        ({"only_included": True, "include": ["a"]}, "updates.classifications", []),
        ({"include": ["a", "b*"]}, "updates.include", ["a", "b*"]),
        ({"exclude": ["c"]}, "updates.exclude", ["c"]),
        ({"exclude_requiring_reboot": True}, "updates.exclude_requiring_reboot", True),
        ({"newest": True}, "updates.newest", True),
        ({"minutes": 30.0}, "window.minutes", 30),
        ({"zone": "Europe/Berlin"}, "window.zone", "Europe/Berlin"),
        ({"reserve": 0.0}, "reboot_reserve_minutes", 0),
        ({"canary": "2"}, "waves.canary_count", 2),
        ({"canary": "10%"}, "waves.canary_percent", 10),
        ({"wave_size": 3}, "waves.size", 3),
        ({"wave_percent": 50.0}, "waves.percent", 50),
        ({"at_once": 4}, "waves.at_once", 4),
        ({"pause": 5.0}, "waves.pause_minutes", 5),
        ({"failure_budget": "0"}, "waves.failure_budget_count", 0),
        ({"failure_budget": "5%"}, "waves.failure_budget_percent", 5),
        ({"unreachable_percent": 10.0}, "waves.unreachable_percent", 10),
        ({"go_on_after_failed_canary": True}, "waves.go_on_after_failed_canary", True),
        ({"keep_locations_apart": True}, "waves.keep_locations_apart", True),
        ({"reboot": RebootPolicy.NEVER}, "reboot", RebootPolicy.NEVER),
        ({"no_reboot_if_live_patched": True}, "reboot_if_live_patched", False),
        ({"live_patched_reboot_days": 30.0}, "live_patched_reboot_days", 30),
        ({"reboot_pending_first": True}, "reboot_pending_first", True),
        ({"max_reboots": 0}, "max_reboots", 0),
        ({"allow_removals": True}, "allow_removals", True),
        ({"repair": True}, "repair", True),
        ({"patched_by_others": "skip"}, "patched_by_others", "skip"),
        ({"no_stage": True}, "stage", False),
        ({"no_refresh": True}, "refresh", False),
        ({"dry_run": True}, "dry_run", True),
    ],
)
def test_each_option_reaches_its_field_and_no_other(options: dict[str, Any], field: str, value: object) -> None:
    request = build_patch_request(_options(**options))
    found: Any = request
    for part in field.split("."):
        found = getattr(found, part)
    assert found == value
    changed = set(_leaves(request)) - set(_leaves(PatchRequest(scope="*")))
    names = {name for name, _ in changed} - ({"updates.include"} if "only_included" in options else set())
    assert names == {field}


def _leaves(model: BaseModel, prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for name in type(model).model_fields:
        value = getattr(model, name)
        found += (
            _leaves(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else [(f"{prefix}{name}", repr(value))]
        )
    return found


def test_merging_goes_key_by_key() -> None:
    assert merge_trees({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": [2]}) == {
        "a": {"b": 3, "c": 2},
        "d": [2],
    }


def test_what_was_not_given_is_left_out() -> None:
    assert remove_unset_values({"a": None, "b": {"c": None}, "d": 0, "e": False, "f": []}) == {
        "d": 0,
        "e": False,
        "f": [],
    }


def test_all_faults_are_told_with_their_options() -> None:
    tree = {"scope": "*", "window": {"minutes": -1}, "waves": {"size": 0}, "nonsense": 1}
    with pytest.raises(RequestError) as caught:
        build_request(PatchRequest, tree)
    assert "--minutes: " in caught.value.message
    assert "--wave-size: " in caught.value.message
    assert "nonsense: " in caught.value.message
