"""The last question before a run names every value that is not the default, also of a field that is added later."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from fleetpatch.cli.views.patch_request import print_patch_request
from flows.approval.plan_rendering import render_plan_markdown
from flows.request.differences import MAX_ENTRIES, list_differences
from flows.request.patch_request import PatchRequest, WavesRequest, WindowRequest
from inventory.machine import Machine
from tests.support import builders as make

USUAL = PatchRequest(scope="*")
NOW = datetime(2026, 3, 10, 1, tzinfo=UTC)


def list_leaves(model: BaseModel, above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield path, annotation and default of each field, at any depth, apart from the scope."""
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from list_leaves(value, f"{above}{name}.")
        elif above + name != "scope":
            yield above + name, info.annotation, value


def make_other(annotation: Any, default: Any) -> Any:
    """Return a value of a type that is not the default."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    makers = {
        bool: lambda: not default,
        int: lambda: (default or 0) + 1,
        float: lambda: (default or 0) + 1.5,
        str: lambda: f"{default or ''}x",
        datetime: lambda: datetime(2026, 12, 1, tzinfo=UTC),
        Path: lambda: Path("/srv/other"),
        list: lambda: [] if default else [make_other(arguments[0], None)],
        dict: lambda: {make_other(arguments[0], None): make_other(arguments[1], None)},
        Literal: lambda: next(each for each in arguments if each != default),
        Annotated: lambda: make_other(arguments[0], default),
        Union: lambda: make_other(next(each for each in arguments if each is not type(None)), default),
        UnionType: lambda: make_other(next(each for each in arguments if each is not type(None)), default),
    }
    if issubclass(origin or annotation, Enum) if isinstance(origin or annotation, type) else False:
        return next(each for each in annotation if each != default)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.items()
        defaults = {name: None if info.is_required() else info.default for name, info in fields}
        return annotation.model_construct(
            **{name: make_other(info.annotation, defaults[name]) for name, info in fields}
        )
    return makers[origin or annotation]()


def change(model: BaseModel, path: str, value: Any) -> Any:
    """Return a request with another value of one field."""
    name, _, rest = path.partition(".")
    return model.model_copy(update={name: change(getattr(model, name), rest, value) if rest else value})


LEAVES = {path: make_other(annotation, default) for path, annotation, default in list_leaves(USUAL)}


def test_the_fields_are_all_that_the_model_has() -> None:
    assert {"allow_removals", "accept_licences", "waves.failure_budget_percent", "hooks.before_run"} <= LEAVES.keys()
    assert len(LEAVES) > 50


def test_a_usual_request_has_no_difference_but_its_scope() -> None:
    assert [each.path for each in list_differences(USUAL)] == ["scope"]


@pytest.mark.parametrize("path", LEAVES)
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_every_field_that_is_not_the_default_is_named(path: str) -> None:
    request = change(USUAL, path, LEAVES[path])
    (found,) = [each for each in list_differences(request) if each.path != "scope"]
    assert found.path == path
    assert found.title
    assert found.value


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@given(st.sets(st.sampled_from(sorted(LEAVES))))
def test_all_of_several_differences_are_named(paths: set[str]) -> None:
    request: Any = USUAL
    for path in paths:
        request = change(request, path, LEAVES[path])
    assert {each.path for each in list_differences(request)} == {"scope", *paths}


def test_values_are_words() -> None:
    request = PatchRequest.model_validate(
        {
            "scope": "*",
            "allow_removals": True,
            "stage": False,
            "waves": {"failure_budget_percent": 100, "size": 7},
            "updates": {"classifications": [], "exclude": ["a*", "b"]},
            "only_machines": [f"m{number}" for number in range(MAX_ENTRIES + 5)],
            "hooks": {"before_run": [{"name": "call", "kind": "http", "target": "https://h.example/secret-secret"}]},
        }
    )
    found = {each.title: each.value for each in list_differences(request)}
    assert found["Allow removals"] == "yes"
    assert found["Download first"] == "no"
    assert found["Waves: failure budget percent"] == "100"
    assert found["Waves: machines a wave"] == "7"
    assert found["Updates: classifications"] == "none"
    assert found["Updates: exclude"] == "a*, b"
    assert found["Only these machines"].endswith("m49, and 5 more")
    assert "secret" not in found["Hooks: before run"]
    assert "https://h.example/***" in found["Hooks: before run"]


DANGEROUS = PatchRequest.model_validate(
    {"scope": "*", "allow_removals": True, "waves": {"failure_budget_percent": 100}, "updates": {"include": ["a_b*"]}}
)


def test_the_command_names_them_before_it_asks(capsys: pytest.CaptureFixture[str]) -> None:
    print_patch_request(DANGEROUS, [Machine(name="web-1", address="192.0.2.1")], NOW)
    said = capsys.readouterr().err
    for line in ("Allow removals: yes", "Waves: failure budget percent: 100", "Updates: include: a_b*"):
        assert f"\n  {line}\n" in said
    print_patch_request(USUAL, [], NOW)
    assert "Not as usual" not in capsys.readouterr().err


def test_the_form_of_an_approval_names_them() -> None:
    run = make.make_run(request=DANGEROUS.model_dump(mode="json"))
    text = render_plan_markdown(make.make_report(run=run), "a" * 64, "soon")
    assert "- Allow removals: yes" in text
    assert "- Updates: include: a\\_b\\*" in text
    odd = make.make_run(request={"scope": "*", "allow_everything": True})
    assert "can't be read" in render_plan_markdown(make.make_report(run=odd), "a" * 64, "soon").replace("&#39;", "'")


def test_the_last_question_has_machines_waves_updates_reboots_and_the_end_of_the_window(
    capsys: pytest.CaptureFixture[str],
) -> None:
    machines = [Machine(name=f"web-{number}", address=f"192.0.2.{number}") for number in range(1, 6)]
    assessment = make.make_assessment(machine="web-1")
    known = {"web-1": replace(assessment, at=NOW - timedelta(hours=3))}
    request = PatchRequest(scope="*", waves=WavesRequest(canary_count=1, size=2), window=WindowRequest(minutes=60))
    print_patch_request(request, machines, NOW, (), known)
    said = capsys.readouterr().err
    assert "Machines  5: web-1, web-2, web-3, web-4, web-5" in said
    assert "Waves     3: 1 canary machine, then 2 machines, then 2 machines; 20 at once" in said
    assert " on 1 machine when last assessed, 3 h ago; not known of 4 machines" in said
    assert "Window    2026-03-10 01:00 to 02:00 UTC (1 h)" in said
    assert "Reboot    IfRequired, 15 min reserved; expected on " in said
    assert "Nothing can begin" not in said
    print_patch_request(PatchRequest(scope="*", window=WindowRequest(minutes=12)), machines, NOW)
    said = capsys.readouterr().err
    assert said.startswith(
        "Nothing can begin: the window has 12 min left, until 01:12 UTC; the shortest installation needs"
    )
    assert "and 15 min are kept for a reboot; together" in said
