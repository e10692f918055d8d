"""The format of policy.yaml: what runs may do on which machines, whoever starts them and through whichever door."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from flows.freezes.freeze_files import FreezeForm
from flows.freezes.time_values import MINUTES_PER_DAY, DurationMinutes
from flows.request.base import CheckedPath, FormModel, validate_scope
from inventory.schema.value_types import build_validation_error
from tasks.domain.states import Classification, RebootPolicy
from tasks.rules.policy.model import ANY_LOGIN, ROLE_PREFIX, RiskyOption

_DESCRIBING_KEYS = frozenset({"name", "scope", "ask", "description"})
_MAX_NAME_LENGTH = 200
Percent = Annotated[float, Field(ge=0, le=100)]


def _validate_approver(value: str) -> str:
    word = value.strip()
    role = word.removeprefix(ROLE_PREFIX)
    if word.startswith(ROLE_PREFIX) and role != "approve":
        raise build_validation_error(f"{word[:80]!r} is no role that approves", "Write `role:approve`, or a login.")
    if not word or "|" in word or len(word) > _MAX_NAME_LENGTH or (ANY_LOGIN in word and word != ANY_LOGIN):
        raise build_validation_error(
            f"{value[:80]!r} is no login", 'Write the name of a login, `role:approve`, or "*" for every login.'
        )
    return word


class ApprovalRuleForm(FormModel):
    """Who may approve. The person who started the run never may, and a name that was only typed never counts."""

    by: list[Annotated[str, AfterValidator(_validate_approver)]] = Field(
        min_length=1,
        max_length=200,
        description='Logins by name, `role:approve` (whoever has this role at the pages), or "*" for every login.',
    )


class RuleForm(FormModel):
    """One rule. It holds for every run that has one of its machines. A key that is left out limits nothing."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][\w .-]*$")] = Field(
        description="Its name in refusals, unique in the file."
    )
    description: str = Field(default="", max_length=2000, description="What it is for, for people.")
    scope: Annotated[str, Field(min_length=1, max_length=1500), AfterValidator(validate_scope)] = Field(
        description="Its machines, e.g. `env=prod`; `*` is all of them."
    )
    ask: str = Field(
        min_length=1, max_length=200, description="Whom to ask, for refusals: a person, a team, an address."
    )
    approval: ApprovalRuleForm | None = Field(
        default=None, description="Who must approve the plan before anything is changed. Left out: nobody."
    )
    freezes: list[FreezeForm] = Field(
        default=[],
        max_length=500,
        description="Times in which nothing is changed, by the clocks of each machine's own zone.",
    )
    forbid: list[RiskyOption] = Field(default=[], description="Options that no run may use.")
    hooks: list[Annotated[str, Field(min_length=1, max_length=4000)]] | None = Field(
        default=None,
        max_length=500,
        description="The only hook targets that runs may have, exactly as they are written in hooks. Left out: any.",
    )
    classifications: list[Classification] | None = Field(
        default=None,
        min_length=1,
        description="The only kinds of updates that may be selected; then none may be included by name.",
    )
    reboots: list[RebootPolicy] | None = Field(
        default=None, min_length=1, description="The only reboot policies that are allowed."
    )
    longest_window: DurationMinutes | None = Field(
        default=None,
        gt=0,
        le=31 * MINUTES_PER_DAY,
        description='The length that a window may have: "04:00", 4h, or minutes. With hooks before the run, the lead '
        "counts as well.",
    )
    failure_budget_percent: Percent | None = Field(
        default=None, description="The highest failure budget: the share of a run's machines that may fail."
    )
    unreachable_percent: Percent | None = Field(
        default=None, description="The highest share of a run's machines that may be unreachable."
    )
    at_once_percent: Annotated[float, Field(gt=0, le=100)] | None = Field(
        default=None,
        description="The share of the rule's machines that a run patches at the same time, rounded down, at least one. "
        "A run that asks for more gets this many.",
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_empty_keys(cls, data: Any) -> Any:  # noqa: ANN401 - whatever stands in the file
        """Refuse a key without a value: it looks like a limit, and would be none."""
        empty = next((key for key, value in data.items() if value is None), None) if isinstance(data, dict) else None
        if empty is not None:
            raise build_validation_error(f"`{empty}` has no value", "Give it one, or leave the key out.")
        return data

    @model_validator(mode="after")
    def _require_limit(self) -> "RuleForm":
        if not self.model_fields_set - _DESCRIBING_KEYS:
            raise build_validation_error("this rule limits nothing", "Give it `approval`, `freezes`, `forbid` …")
        return self


class PolicyForm(FormModel):
    """The rules, and the inventories that runs may use."""

    inventories: list[CheckedPath] = Field(
        default=[],
        max_length=100,
        description="The only inventories that runs may use, relative to this file. Left out: the one that the worker "
        "finds by itself.",
    )
    rules: list[RuleForm] = Field(min_length=1, max_length=500, description="The rules. All that apply hold.")


class PolicyFileForm(FormModel):
    """The file policy.yaml."""

    policy: PolicyForm = Field(description="What runs may do on which machines.")


def build_policy_schema() -> dict[str, Any]:
    """Return the JSON Schema of policy.yaml."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **PolicyFileForm.model_json_schema(),
        "title": "fleetpatch policy",
    }
