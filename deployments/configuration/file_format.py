"""The format of configuration files: the keys, their types, and the rules for each value.

``flows/request/patch_request.py`` defines the options of a patch run. This module copies them with their limits,
defaults and descriptions.
"""

import re
from copy import copy
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema, create_model, model_validator

from deployments.configuration.prefect_names import RESERVED_NAMES
from flows.freezes.freeze_files import FreezeForm
from flows.freezes.time_values import MINUTES_PER_DAY, DurationMinutes, EndTime, LocalTime, parse_time_zone
from flows.request.automatic_request import AutomaticRequest
from flows.request.base import CheckedPath, FormModel, validate_scope
from flows.request.patch_request import PatchRequest, UpdatesRequest, WavesRequest
from flows.request.request_parts import ApprovalRequest, HoldOptions, HooksRequest, NotifyRequest
from inventory.schema.value_types import NameList, build_validation_error
from tasks.domain.errors import RequestError
from tasks.domain.states import RebootPolicy, include_esm
from tasks.rules.recurrence.parser import parse_recurrence

_NAME_PATTERN = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_TAG_PATTERN = re.compile(r"[\w.:/=@+-]{1,80}")
_MAX_NAME_CHARACTERS = 63


def _copy_request_field(name: str) -> Any:  # noqa: ANN401  # of the type that its key has
    """Return a field of the patch request, with its limits, default and description."""
    return copy(PatchRequest.model_fields[name])


def _validate_name(value: str) -> str:
    if not _NAME_PATTERN.fullmatch(value) or len(value) > _MAX_NAME_CHARACTERS:
        remedy = (
            f"Use up to {_MAX_NAME_CHARACTERS} small letters and digits, with '-', '_' or '.' between them, "
            "such as web-servers."
        )
        raise build_validation_error(f"{value[:80]!r} is no usable name for a configuration", remedy)
    if value in RESERVED_NAMES:
        remedy = f"Choose another name; fleetpatch itself uses {', '.join(sorted(RESERVED_NAMES))}."
        raise build_validation_error(f"{value!r} is reserved: fleetpatch uses this name in Prefect", remedy)
    return value


def _validate_recurrence(value: str) -> str:
    try:
        parse_recurrence(value)
    except RequestError as error:
        raise build_validation_error(error.message, error.hint) from error
    return value.strip()


def _validate_tag(value: str) -> str:
    if not _TAG_PATTERN.fullmatch(value):
        raise build_validation_error(
            f"{value[:80]!r} is no usable tag", "Use up to 80 letters, digits and . _ : / = @ + -, no blanks."
        )
    return value


_ZONE_SCHEMA = {"type": "string", "description": "IANA or Windows name, or `machine`.", "examples": ["Europe/Berlin"]}
ZoneName = Annotated[str, AfterValidator(parse_time_zone), WithJsonSchema(_ZONE_SCHEMA)]
RecurrenceText = Annotated[str, AfterValidator(_validate_recurrence)]


class WindowForm(FormModel):
    """The time in which a run may change machines, and how it recurs."""

    start: LocalTime = Field(description="When the first window opens, by the clocks of the zone: 2026-12-05 22:00.")
    length: DurationMinutes = Field(
        gt=0, le=31 * MINUTES_PER_DAY, description='The length of each window: "01:55", 2h, or a number of minutes.'
    )
    zone: ZoneName = Field(
        description="The time zone: an IANA name (Europe/Berlin), a Windows name (W. Europe Standard Time), or "
        "`machine` for each machine's own zone."
    )
    expires: EndTime | None = Field(
        default=None, description="No window opens from then on; a date alone is the last day. Empty: never."
    )
    recurrence: RecurrenceText = Field(
        default="Once",
        description="How the window recurs: Azure's words (3Days, 2Weeks Saturday,Sunday, Month Second Tuesday "
        "Offset4), an iCalendar rule (FREQ=MONTHLY;BYDAY=2TU) or cron (0 22 * * TUE#2). Empty: once.",
    )

    @model_validator(mode="after")
    def _require_end_after_start(self) -> "WindowForm":
        if self.expires is not None and self.expires <= self.start:
            raise build_validation_error(
                "it expires before its first window opens", "Correct `expires`, or leave it out."
            )
        return self


class HoldForm(HoldOptions):
    """Hold what becomes pending, and apply it as one package."""

    hold: DurationMinutes = Field(
        ge=MINUTES_PER_DAY,
        le=365 * MINUTES_PER_DAY,
        description="How long what becomes pending waits at the most: `35 days`. It counts from the first moment that "
        "anything of it was seen. After that it is applied, whatever the schedule.",
    )


class _FirstKeys(FormModel):
    """The keys that come first in a configuration. The other options of a patch request follow them."""

    name: Annotated[str, AfterValidator(_validate_name)] = Field(
        description="Its name, unique among those loaded together: small letters, digits, '-', '_', '.'."
    )
    description: str = Field(default="", max_length=2000, description="What it is for, for people.")
    enabled: bool = Field(default=True, description="Whether its windows open. Off: it is checked and shown only.")
    tags: list[Annotated[str, AfterValidator(_validate_tag)]] = Field(
        default=[], max_length=20, description="Labels of its deployments and runs in Prefect."
    )
    scope: Annotated[str, Field(min_length=1, max_length=1500), AfterValidator(validate_scope)] | None = Field(
        default=None,
        description="Which machines, e.g. `env=prod,os=linux,!ring=canary`; resolved anew when each run starts.",
    )
    machines: NameList | None = Field(default=None, description="Machines by name, in addition to those of the scope.")
    inventory: CheckedPath | None = Field(
        default=None, description="Inventory file or folder, relative to this file. Empty: as every command finds it."
    )
    updates: UpdatesRequest = _copy_request_field("updates")
    window: WindowForm = Field(description="When changes may be made.")
    lead: DurationMinutes = Field(
        default=0,
        ge=0,
        le=7 * MINUTES_PER_DAY,
        description="How long before its window a run starts: for its plan, its approval and the hooks before it.",
    )
    stage_ahead: DurationMinutes | None = Field(
        default=None,
        gt=0,
        le=7 * MINUTES_PER_DAY,
        description="How long before its window the updates are downloaded, in a run of their own. Empty: inside it.",
    )
    maintenance: HoldForm | None = Field(
        default=None,
        description="Hold what becomes pending, and apply it as one package. Empty: each window installs what is "
        "pending.",
    )
    reboot: RebootPolicy = _copy_request_field("reboot")
    waves: WavesRequest = _copy_request_field("waves")
    hooks: HooksRequest = _copy_request_field("hooks")
    approval: ApprovalRequest = _copy_request_field("approval")
    notify: list[NotifyRequest] = _copy_request_field("notify")
    freezes: list[FreezeForm] = Field(
        default=[], max_length=500, description="Times in which nothing may be changed, not even inside a window."
    )


NOT_SHARED_FIELDS = frozenset(
    {
        "scope",
        "component",
        "component_version",
        "roll_back",
        "only_machines",
        "inventory",
        "window",
        "freezes",
        "override_freeze",
        "configuration",
        "maintenance",
        "dry_run",
        "download_only",
        "outside_window",
        "shard",
        "shard_limits",
        "undo_by",
        "undo_of",
        "undo_unreachable",
    }
)
"""Fields of a patch request that a configuration says in another way, or not at all."""

SHARED_FIELDS = tuple(name for name in PatchRequest.model_fields if name not in NOT_SHARED_FIELDS)
"""Keys that mean the same in a configuration and in a patch request."""

if TYPE_CHECKING:

    class _AllKeys(_FirstKeys):
        def __getattr__(self, name: str) -> Any: ...  # noqa: ANN401  # a field of the patch request

else:
    _AllKeys = create_model(
        "_AllKeys",
        __base__=_FirstKeys,
        **{
            name: (PatchRequest.model_fields[name].annotation, _copy_request_field(name))
            for name in SHARED_FIELDS
            if name not in _FirstKeys.model_fields
        },
    )


class ConfigurationForm(_AllKeys):
    """A maintenance configuration: its machines, updates, window, reboots and hooks."""

    @model_validator(mode="after")
    def _require_machines(self) -> "ConfigurationForm":
        if self.scope is None and not self.machines:
            raise build_validation_error("it names no machines", "Add `scope:` (`*` is all of them) or `machines:`.")
        return self

    @model_validator(mode="after")
    def _refuse_pinned_packages(self) -> "ConfigurationForm":
        if self.maintenance is not None and self.updates.as_in_run:
            raise build_validation_error(
                "`maintenance` holds all that is pending, and `updates.as_in_run` chooses what another run had",
                "Leave one of the two out.",
            )
        return self

    @model_validator(mode="after")
    def _require_selected_exceptions(self) -> "ConfigurationForm":
        """Refuse kinds that need not wait and are never installed: people would think that they are."""
        not_held = self.maintenance.not_held if self.maintenance is not None else []
        never = [kind.value for kind in not_held if kind not in include_esm(frozenset(self.updates.classifications))]
        if never:
            raise build_validation_error(
                f"`maintenance.not_held` names {', '.join(never)}, which `updates.classifications` does not select",
                "Add it there, or leave it out here.",
            )
        return self


if TYPE_CHECKING:

    class AutomaticForm(AutomaticRequest):
        """How machines with `owner: managed` are patched automatically."""

else:
    AutomaticForm = create_model(
        "AutomaticForm",
        __base__=AutomaticRequest,
        __doc__="How machines with `owner: managed` are patched automatically.",
        scope=(Annotated[str, AfterValidator(validate_scope)], copy(AutomaticRequest.model_fields["scope"])),
        freezes=(list[FreezeForm], copy(AutomaticRequest.model_fields["freezes"])),
    )


class FileForm(FormModel):
    """A file of several configurations. Its freezes apply to all configurations that are loaded together."""

    automatic: AutomaticForm | None = Field(
        default=None, description="Patch machines with `owner: managed` automatically. At most one of all files has it."
    )
    configurations: list[ConfigurationForm] = Field(default=[], description="The configurations.")
    freezes: list[FreezeForm] = Field(
        default=[], description="Freezes of all configurations that are loaded together, in this file and its folder."
    )


def build_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a file: one configuration, or a list of them."""
    several = FileForm.model_json_schema()
    single = ConfigurationForm.model_json_schema()
    parts = {**several.pop("$defs", {}), **single.pop("$defs", {})}
    parts["FileForm"] = several
    no_name = {"not": {"required": ["name"]}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fleetpatch maintenance configurations",
        "description": "One configuration; or several under `configurations:`, and `automatic:`.",
        "$defs": dict(sorted({**parts, "ConfigurationForm": single}.items())),
        "if": {"anyOf": [*({"required": [key]} for key in ("configurations", "automatic")), no_name]},
        "then": {"$ref": "#/$defs/FileForm"},
        "else": {"$ref": "#/$defs/ConfigurationForm"},
    }
