"""What docs/reference/configuration.md shows is what the program does, and the schema beside it is current."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.configuration.file_format import (
    AutomaticForm,
    ConfigurationForm,
    WindowForm,
    build_json_schema,
)
from deployments.configuration.loader import InvalidConfigurations, load_configurations
from flows.freezes.freeze_files import FreezeForm
from flows.request.automatic_request import OffPeakRequest, PhasesRequest, RiskRuleRequest
from flows.request.patch_request import UpdatesRequest, WavesRequest
from flows.request.request_parts import ApprovalRequest, HookRequest, HooksRequest, NotifyRequest
from tasks.domain.states import RebootPolicy
from tasks.rules.recurrence.parser import parse_recurrence
from tests.unit.config.folder import TODAY, Folder

DOCS = Path(__file__).parents[3] / "docs" / "reference"
TEXT = (DOCS / "configuration.md").read_text(encoding="utf-8")
SMALL, WHOLE, AUTOMATIC = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
SECTIONS = {
    ConfigurationForm: "## Keys",
    WindowForm: "### The window",
    UpdatesRequest: "### Updates",
    WavesRequest: "### Waves",
    HooksRequest: "### Hooks",
    HookRequest: "### Hooks",
    ApprovalRequest: "### Hooks",
    NotifyRequest: "### Hooks",
    AutomaticForm: "## Automatic patching",
    OffPeakRequest: "## Automatic patching",
    PhasesRequest: "## Automatic patching",
    RiskRuleRequest: "## Automatic patching",
}


class Words(yaml.SafeLoader):
    """Reads YAML 1.2, as an editor's language server does: dates are text, and `on` is a word."""


Words.yaml_implicit_resolvers = {
    first: [each for each in each_of if not each[0].endswith(("timestamp", "bool"))]
    for first, each_of in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Words.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false"), list("tf"))


def test_the_examples_load(folder: Folder) -> None:
    assert folder.one(SMALL).name == "web"
    found = folder.read(WHOLE)
    assert [one.name for one in found.all_configurations] == ["canaries", "web", "shops"]
    assert [len(one.freezes) for one in found.all_configurations] == [2, 3, 2]
    for one in found.all_configurations:
        assert one.build_request("UTC").configuration == one.name


def test_the_example_of_automatic_patching_loads(folder: Folder) -> None:
    request = folder.read(AUTOMATIC).automatic
    assert request is not None
    assert (request.inventory, request.feeds) == (folder.path / "fleet.yaml", folder.path / "feeds")
    # Its keys are all there are, with the defaults of the table where the table has one.
    assert set(yaml.safe_load(AUTOMATIC)["automatic"]) == set(AutomaticForm.model_fields)


def test_the_recipes_for_live_patches_load(folder: Folder) -> None:
    page = (DOCS.parent / "how-to" / "live-patches.md").read_text(encoding="utf-8")
    recipes = [text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "name:" in text]
    only, quarterly = [folder.one(text).build_request() for text in recipes]
    assert (only.updates.classifications, only.reboot, only.reboot_if_live_patched) == ([], RebootPolicy.NEVER, False)
    assert quarterly.reboot_pending_first


@pytest.mark.parametrize("form", SECTIONS, ids=lambda form: form.__name__)
def test_every_key_is_documented(form: Any) -> None:
    section = TEXT.partition(SECTIONS[form])[2]
    assert [key for key in form.model_fields if f"`{key}`" not in section and f"{key}" not in section[:2500]] == []


def test_every_kind_of_freeze_is_documented() -> None:
    section = TEXT.partition("### Freezes")[2]
    assert [key for key in FreezeForm.model_fields if f"{key}:" not in section and f"`{key}`" not in section] == []


def test_every_recurrence_that_is_shown_is_understood() -> None:
    table = TEXT.partition("as an iCalendar rule, or as cron:")[2].partition("\n\nA time that")[0]
    shown = re.findall(r"`([^`]+)`", table)
    assert len(shown) == 9
    assert all(parse_recurrence(each) for each in shown)


def test_faults_look_as_shown(folder: Folder) -> None:
    folder.write(
        {
            "web.yaml": "name: web\nscope: '*'\n"
            "window: {start: 2026-12-06, length: 2h, zone: Europe/Berlim}\nlead: soon\n"
        }
    )
    with pytest.raises(InvalidConfigurations) as caught:
        load_configurations(folder.path, TODAY)
    (shown,) = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
    assert str(caught.value).replace(f"{folder.path}/", "") == shown.rstrip()


def test_the_schema_is_current() -> None:
    """`fleetpatch config schema --output docs/reference/configuration.schema.json` writes it anew."""
    assert json.loads((DOCS / "configuration.schema.json").read_text(encoding="utf-8")) == build_json_schema()


@pytest.mark.parametrize("text", [SMALL, WHOLE, AUTOMATIC], ids=["small", "whole", "automatic"])
def test_the_examples_fit_the_schema(text: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(build_json_schema()).validate(yaml.load(text, Loader=Words))


@pytest.mark.parametrize(
    "text",
    [
        SMALL.replace("scope:", "scop:"),
        SMALL.replace("name: web", "nam: web"),
        SMALL.replace("zone:", "zon:"),
        WHOLE.replace("lead:", "leed:"),
        WHOLE.replace("reboot: IfRequired", "reboot: Perhaps"),
        WHOLE.replace("- {date:", "- {dat:"),
        WHOLE.replace("kind: http", "kind: htp"),
        AUTOMATIC.replace("due_days: 30", "due_day: 30"),
        AUTOMATIC.replace("soak_hours", "soak"),
    ],
)
def test_an_editor_sees_what_does_not_fit(text: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert text not in {SMALL, WHOLE, AUTOMATIC}
    assert not jsonschema.Draft202012Validator(build_json_schema()).is_valid(yaml.load(text, Loader=Words))
