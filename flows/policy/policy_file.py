"""The format of policy.yaml (what runs may do on which machines, whoever starts them), and where its files are found.

Whoever starts a run must not choose another policy. So no request names one, and every file that is in one of these
places holds: none of them replaces another.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import platformdirs
from pydantic import AfterValidator, Field, model_validator

from flows.freezes.freeze_files import FreezeForm, build_freezes
from flows.freezes.time_values import MINUTES_PER_DAY, DurationMinutes
from flows.request.base import CheckedPath, FormModel, validate_scope
from inventory.errors import InvalidFiles, InvalidInventory, InventoryError
from inventory.files.located_yaml import iterate_entries, parse_yaml
from inventory.files.paths import expand_home, find_user_directory, find_working_directory
from inventory.files.problems import LocatedData, ProblemCollector, SourceLocation
from inventory.files.text_files import read_text_file
from inventory.loader import find_inventory
from inventory.schema.validation import describe_unknown_key, validate_mapping
from inventory.schema.value_types import build_validation_error
from inventory.scope import Scope
from tasks.domain.errors import PolicyRefused
from tasks.domain.states import Classification, RebootPolicy
from tasks.rules.policy.decision import DeployedPolicy, describe_difference
from tasks.rules.policy.model import (
    ANY_LOGIN,
    ROLE_PREFIX,
    InventoryLimit,
    Policy,
    PolicyFile,
    PolicyFreeze,
    PolicyRule,
    RiskyOption,
)

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


POLICY_VARIABLE: Final = "FLEETPATCH_POLICY"
CONFIGURATIONS_VARIABLE: Final = "FLEETPATCH_CONFIGURATIONS"
POLICY_FILE_NAME: Final = "policy.yaml"
SYSTEM_FOLDERS: Final = (Path("/etc/fleetpatch"), Path("/etc/fleetpatch/configurations"))
_CONFIGURATIONS_FOLDER, _CONFIGURATIONS_FILE = "configurations", "configurations.yaml"
_NOT_READ = "Until it can be read, no run begins: correct it, or make it readable for this user."


class InvalidPolicy(InvalidFiles):
    """All problems of policy files. No run begins until they are corrected."""

    subject = "policy"


def find_policy_files(configurations: Path | None = None) -> tuple[Path, ...]:
    """Return the policy files that hold for this process, each once.

    Args:
        configurations: a file or folder of configurations that this process uses beside the usual ones.

    Returns:
        All that exist of: $FLEETPATCH_POLICY; policy.yaml in /etc/fleetpatch and /etc/fleetpatch/configurations; and
        policy.yaml in the folder of configurations: that of $FLEETPATCH_CONFIGURATIONS, of the working directory and of
        the user's configuration.

    Raises:
        InventoryError: a variable names what does not exist, or a place can't be looked at. Then no run may begin.
    """
    files = {os.path.realpath(path): path for path in _list_candidates(configurations) if _is_present(path)}
    return tuple(files.values())


def _list_candidates(configurations: Path | None) -> Iterator[Path]:
    if configurations is not None:
        yield find_policy_beside(configurations.absolute())
    if named := os.environ.get(POLICY_VARIABLE):
        path = expand_home(Path(named)).absolute()
        if not _is_present(path):
            raise InventoryError(f"there is no such file, named by {POLICY_VARIABLE}", file=path, hint=_NOT_READ)
        yield path
    yield from (folder / POLICY_FILE_NAME for folder in SYSTEM_FOLDERS)
    if named := os.environ.get(CONFIGURATIONS_VARIABLE):
        path = expand_home(Path(named)).absolute()
        if not _is_present(path):
            raise InventoryError(
                f"there is no such file or folder, named by {CONFIGURATIONS_VARIABLE}",
                file=path,
                hint="Correct the variable: without its folder it is not known whether a policy holds.",
            )
        yield find_policy_beside(path)
    with suppress(InventoryError):  # a working directory that was removed holds no file
        yield from _list_default_places(find_working_directory())
    with suppress(InventoryError):  # a user without a home directory has no configuration folder
        yield from _list_default_places(find_user_directory(platformdirs.user_config_path, InventoryError, "name it"))


def _list_default_places(folder: Path) -> Iterator[Path]:
    yield folder / _CONFIGURATIONS_FOLDER / POLICY_FILE_NAME
    if _is_present(folder / _CONFIGURATIONS_FILE):
        yield folder / POLICY_FILE_NAME


def find_policy_beside(configurations: Path) -> Path:
    """Return the path of the policy file of a file or folder of configurations."""
    return (configurations if configurations.is_dir() else configurations.parent) / POLICY_FILE_NAME


def _is_present(path: Path) -> bool:
    """Return whether something stands at a path, also a link that leads nowhere.

    Raises:
        InventoryError: it can't be said, because a folder above it can't be searched.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InventoryError(
            f"it can't be said whether a policy is here: {error.strerror}", file=path, hint=_NOT_READ
        ) from error
    return True


def load_policy(today: date, configurations: Path | None = None) -> Policy:
    """Load the policy of this controller; without any file, a policy without rules.

    Args:
        today: events of iCalendar files are expanded from the start of this year.
        configurations: a file or folder of configurations that this process uses beside the usual ones.

    Raises:
        InvalidPolicy: a file can't be read or has problems. Then no run may begin.
        InventoryError: it can't be said which files hold. Then no run may begin.
    """
    parts = [load_policy_file(path, today) for path in find_policy_files(configurations)]
    return Policy(
        rules=tuple(rule for part in parts for rule in part.rules),
        inventory_limits=tuple(limit for part in parts for limit in part.inventory_limits),
        files=tuple(file for part in parts for file in part.files),
    )


def load_policy_if_deployed(
    now: datetime, deployed: Sequence[DeployedPolicy], configurations: Path | None = None
) -> Policy:
    """Load the policy of this controller, for a process that changes machines.

    ``deployed`` are the policies of which one must hold here. ``configurations``: see ``load_policy``.

    Raises:
        InventoryError: the policy can't be read.
        PolicyRefused: what was read is none of the policies that were deployed.
    """
    policy = load_policy(now.date(), configurations)
    if reason := describe_difference(deployed, policy.files):
        raise PolicyRefused(reason, hint='docs/reference/policy.md, "After an edit"')
    return policy


def load_policy_file(path: Path, today: date) -> Policy:
    """Load one policy file.

    Raises:
        InvalidPolicy: it can't be read or has problems. The error has each problem with its place and its hint.
    """
    problems = ProblemCollector()
    try:
        policy = read_policy_file(path, today, problems)
        problems.raise_if_any()
    except InvalidInventory as error:
        raise InvalidPolicy(error.problems) from error
    assert policy is not None  # noqa: S101 - for the type checker: otherwise there is a problem
    return policy


def read_policy_file(path: Path, today: date, problems: ProblemCollector) -> Policy | None:
    """Return the policy of one file; None if it has problems, which are collected."""
    text = read_text_file(path, problems)
    located = parse_yaml(path, text, problems) if text is not None else None
    if text is None or located is None:
        if not problems:
            problems.add(SourceLocation(path), "this file is empty", "Begin it with `policy:`, or remove it.")
        return None
    if not isinstance(located.data, dict) or "policy" not in located.data:
        validate_mapping(PolicyFileForm, located, problems, "`policy:`")
        return None
    for key in located.data.keys() - PolicyFileForm.model_fields.keys():
        problems.add(located.locate((key,)), *describe_unknown_key(key, sorted(PolicyFileForm.model_fields)))
    part = located.get_child("policy")
    form = validate_mapping(PolicyForm, part, problems, "`rules:`")
    entries = tuple(iterate_entries(part, "rules", problems)) if isinstance(part.data, dict) else ()
    if form is None or problems:
        return None
    rules = tuple(
        _build_rule(rule_form, entry, today, problems) for rule_form, entry in zip(form.rules, entries, strict=True)
    )
    _check_names(rules, entries, problems)
    limit = InventoryLimit(str(path), frozenset(_list_inventories(form, path, located, problems)))
    return Policy(rules, (limit,), (PolicyFile(str(path), hashlib.sha256(text.encode()).hexdigest()),))


def _build_rule(form: RuleForm, located: LocatedData, today: date, problems: ProblemCollector) -> PolicyRule:
    location = located.locate(("name",))
    freezes = build_freezes(located, today, problems)
    return PolicyRule(
        name=form.name,
        scope=Scope.parse(form.scope),
        place=f"{location.file}:{location.line}" if location.line else str(location.file),
        ask=form.ask,
        approvers=frozenset(form.approval.by) if form.approval is not None else None,
        freezes=tuple(PolicyFreeze(freeze.start, freeze.end, freeze.reason) for freeze in freezes),
        forbidden=frozenset(form.forbid),
        hooks=frozenset(form.hooks) if form.hooks is not None else None,
        classifications=frozenset(form.classifications) if form.classifications is not None else None,
        reboots=frozenset(form.reboots) if form.reboots is not None else None,
        longest_window_minutes=form.longest_window,
        failure_budget_percent=form.failure_budget_percent,
        unreachable_percent=form.unreachable_percent,
        at_once_percent=form.at_once_percent,
    )


def _check_names(rules: tuple[PolicyRule, ...], entries: tuple[LocatedData, ...], problems: ProblemCollector) -> None:
    names: set[str] = set()
    for rule, entry in zip(rules, entries, strict=True):
        if rule.name in names:
            problems.add(
                entry.locate(("name",)), f"the rule {rule.name!r} is here a second time", "Rename one of them."
            )
        names.add(rule.name)


def _list_inventories(form: PolicyForm, path: Path, located: LocatedData, problems: ProblemCollector) -> Iterator[str]:
    if not form.inventories:
        with suppress(InventoryError):  # without one, a run is refused whatever it names
            yield os.path.realpath(find_inventory())
    for number, inventory in enumerate(form.inventories):
        try:
            yield os.path.realpath(path.absolute().parent / expand_home(inventory))
        except InventoryError as error:
            problems.add(located.locate(("policy", "inventories", number)), error.message, error.hint)
