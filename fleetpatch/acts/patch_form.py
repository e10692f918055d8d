"""The form of a patch run, with the texts and limits of PatchRequest, and the machines that its scope selects. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final, Literal

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from fleetpatch.machines.snapshot import FleetSnapshot
from flows.request.patch_request import PatchRequest
from inventory.data_class import dataclass
from inventory.errors import InventoryError
from inventory.scope import Scope
from tasks.domain.states import Classification, Compliance, ReadinessState, RebootPolicy

FieldKind = Literal["text", "number", "choice", "choices", "lines", "flag"]
Values = Mapping[str, Sequence[str]]
"""What a person has typed, by the path of the field."""


@dataclass(frozen=True, slots=True)
class FormField:
    """A field of the form."""

    path: str  # the field of PatchRequest: ``window.minutes``.
    label: str
    kind: FieldKind
    group: str = ""  # the part of the form; "" for the part that is always open
    options: tuple[str, ...] = ()  # of a choice

    @property
    def id(self) -> str:
        """The id of its element."""
        return f"f-{self.path.replace('.', '-').replace('_', '-')}"

    @property
    def help(self) -> str:
        """The text of the model."""
        return (_find_info(self.path).description or "").replace("`", "")

    @property
    def default(self) -> str:
        """The value that an empty field has, as text."""
        value = _find_info(self.path).default
        return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value or "")

    @property
    def least(self) -> str:
        """The lowest number that is allowed, or ""."""
        return _find_limit(self.path, "ge") or _find_limit(self.path, "gt")

    @property
    def most(self) -> str:
        """The highest number that is allowed, or ""."""
        return _find_limit(self.path, "le")

    @property
    def is_whole(self) -> bool:
        """Whether the number is an integer."""
        return "int" in str(_find_info(self.path).annotation)

    @property
    def longest(self) -> str:
        """How many characters the text may have, or ""."""
        return _find_limit(self.path, "max_length") if self.kind == "text" else ""


def _list_options(values: type[StrEnum]) -> tuple[str, ...]:
    return tuple(value.value for value in values)


_UPDATES, _TIME, _WAVES, _MORE = "Which updates", "Start and zone", "Waves", "More"
FIELDS: Final = (
    FormField("scope", "Machines", "text"),
    FormField("window.minutes", "Minutes", "number"),
    FormField("reboot", "Reboots", "choice", options=_list_options(RebootPolicy)),
    FormField("window.start", "Window opens", "text", _TIME),
    FormField("window.zone", "Time zone", "text", _TIME),
    FormField("updates.classifications", "Kinds of updates", "choices", _UPDATES, _list_options(Classification)),
    FormField("updates.include", "Also these", "lines", _UPDATES),
    FormField("updates.exclude", "Never these", "lines", _UPDATES),
    FormField("waves.canary_count", "Canaries", "number", _WAVES),
    FormField("waves.percent", "Percent a wave", "number", _WAVES),
    FormField("waves.at_once", "Machines at once", "number", _WAVES),
    FormField("waves.failure_budget_percent", "Failures that stop the run, in percent", "number", _WAVES),
    FormField("approval.required", "Wait for approval", "flag", _MORE),
    FormField("approval.not_by_starter", "Not by the person who starts it", "flag", _MORE),
    FormField("only_machines", "Only these machines", "lines", _MORE),
    FormField("override_freeze", "Override freezes, because", "text", _MORE),
    FormField("restart_services", "Restart services", "choice", _MORE, ("IfRequired", "Never")),
    FormField("allow_removals", "Allow removals", "flag", _MORE),
    FormField("remove_unused_kernels", "Remove unused kernels", "flag", _MORE),
)
GROUPS: Final = (_TIME, _UPDATES, _WAVES, _MORE)
_BY_PATH: Final = {each.path: each for each in FIELDS}
SENT: Final = "sent"
"""The hidden field that says that the values come from the form. Without it, no box ticked would be the default."""


@dataclass(frozen=True, slots=True)
class ParsedForm:
    """What a form says. ``request`` is None if something is wrong; ``errors`` say what, by the path of the field."""

    request: PatchRequest | None
    errors: Mapping[str, str]


def build_defaults(zone: str) -> dict[str, list[str]]:
    """Return the values of a new form."""
    defaults = {field.path: [field.default] for field in FIELDS if field.kind in {"text", "number", "choice"}}
    kinds = _find_info("updates.classifications").default
    return {
        **defaults,
        "scope": [""],
        "reboot": [RebootPolicy.IF_REQUIRED.value],
        "window.zone": [zone],
        "updates.classifications": [field.value for field in kinds],
    }


def parse_form(values: Values, *, dry_run: bool) -> ParsedForm:
    """Return the request that the values make, or what is wrong with each of them."""
    tree: dict[str, Any] = {"dry_run": True} if dry_run else {}
    for field in FIELDS:
        value = _read_value(field, values.get(field.path, ()), is_form=SENT in values)
        if value is not None:
            *above, name = field.path.split(".")
            branch = tree
            for step in above:
                branch = branch.setdefault(step, {})
            branch[name] = value
    try:
        return ParsedForm(PatchRequest.model_validate(tree), {})
    except ValidationError as error:
        return ParsedForm(None, dict(describe_form_errors(error)))


def _read_value(field: FormField, typed: Sequence[str], *, is_form: bool) -> object:
    """Return the value of a field; None if it was left out."""
    texts = [entry.strip() for entry in typed if entry.strip()]
    if field.kind == "choices":
        return texts if texts or is_form else None
    if field.kind == "lines":
        return [part.strip() for text in texts for part in text.replace(",", "\n").splitlines() if part.strip()] or None
    if field.kind == "flag":
        return bool(texts) or None
    return texts[0] if texts else None


def describe_form_errors(error: ValidationError) -> Iterator[tuple[str, str]]:
    """Yield the path of each field at fault, "" for one that the form does not have, and what is wrong."""
    for detail in error.errors(include_url=False):
        steps = [str(step) for step in detail["loc"]]
        paths = (".".join(steps[:length]) for length in range(len(steps), 0, -1))
        path = next((step for step in paths if step in _BY_PATH), "")
        message = _describe(detail["type"], detail.get("ctx", {}), detail["msg"])
        yield path, message if path else f"{'.'.join(steps)}: {message}"


_LIMIT_WORDS: Final = {
    "greater_than": ("gt", "It must be more than {}."),
    "greater_than_equal": ("ge", "It must be {} or more."),
    "less_than": ("lt", "It must be less than {}."),
    "less_than_equal": ("le", "It must be {} or less."),
    "string_too_long": ("max_length", "It may have {} characters."),
    "too_long": ("max_length", "It may have {} entries."),
}
_WORDS: Final = {
    "missing": "This is needed.",
    "float_parsing": "This is no number.",
    "finite_number": "This is no number.",
    "int_parsing": "This is no whole number.",
    "int_from_float": "This is no whole number.",
    "enum": "This is none of the choices.",
}


def _describe(kind: str, context: Mapping[str, Any], message: str) -> str:
    if kind in _LIMIT_WORDS:
        name, limit_text = _LIMIT_WORDS[kind]
        limit = context.get(name)
        return limit_text.format(f"{limit:g}" if isinstance(limit, float) else limit)
    if kind.startswith("datetime"):
        return "Write it as 2026-11-30 22:00."
    if kind in _WORDS:
        return _WORDS[kind]
    message = str(context.get("message", message)).removeprefix("Value error, ")
    return f"{message[:1].upper()}{message[1:]}."


def _find_info(path: str) -> FieldInfo:
    model: type[BaseModel] = PatchRequest
    *above, name = path.split(".")
    for step in above:
        inner = model.model_fields[step].annotation
        assert isinstance(inner, type)  # noqa: S101 - for the type checker
        model = inner
    return model.model_fields[name]


def _find_limit(path: str, name: str) -> str:
    for entry in _find_info(path).metadata:
        limit = getattr(entry, name, None)
        if limit is not None:
            return f"{limit:g}"
    return ""


SHOWN_NAMES = 20


@dataclass(frozen=True, slots=True)
class ScopePreview:
    """The machines of a scope."""

    total: int = 0  # how many there are
    names: tuple[str, ...] = ()  # the first of them
    foreign: int = 0  # how many somebody else patches: fleetpatch only assesses them
    # Which machines that fleetpatch may patch can't be patched now: name and reason.
    not_ready: tuple[tuple[str, str], ...] = ()
    urgent: int = 0  # how many of those that fleetpatch may patch lack critical or security updates
    unassessed: int = 0  # how many of those have no answer that counts
    digest: str = ""  # of the names of all machines that fleetpatch may patch; "" if they are not known
    error: str = ""  # why nothing is selected, or ""
    hint: str = ""
    problems: tuple[str, ...] = ()  # what could not be read, or is old: the run may find other machines

    @property
    def patchable(self) -> int:
        """How many machines fleetpatch may patch."""
        return self.total - self.foreign


def preview_scope(snapshot: FleetSnapshot, scope: str, only: Sequence[str] = ()) -> ScopePreview:
    """Return the machines that a scope selects now; with ``only``, of these machines alone."""
    return replace(_select(snapshot, scope, only), problems=snapshot.problems)


def _select(snapshot: FleetSnapshot, scope: str, only: Sequence[str]) -> ScopePreview:
    if snapshot.inventory is None:
        return ScopePreview(error="The inventory can't be read here", hint="The run reads its own when it starts.")
    try:
        machines = Scope.parse(scope).select_machines(snapshot.inventory)
    except InventoryError as error:
        return ScopePreview(error=error.message, hint=error.hint)
    if only:
        missing = sorted(set(only) - {entry.name for entry in machines})
        if missing:
            return ScopePreview(error=f"not in the scope: {', '.join(missing[:5])}", hint="Correct the names.")
        machines = tuple(entry for entry in machines if entry.name in only)
    rows = [snapshot.machines[machine.name] for machine in machines if machine.name in snapshot.machines]
    own_rows = [row for row in rows if row.owner is not None and row.owner.is_patchable]
    return ScopePreview(
        total=len(rows),
        names=tuple(row.name for row in rows[:SHOWN_NAMES]),
        foreign=len(rows) - len(own_rows),
        not_ready=tuple(
            (row.name, row.readiness_reason) for row in own_rows if row.readiness is ReadinessState.NOT_READY
        ),
        urgent=sum(row.is_current and bool(row.urgent) for row in own_rows),
        unassessed=sum(row.compliance is Compliance.NOT_ASSESSED for row in own_rows),
        digest=blake2b(
            "\0".join(sorted(row.name for row in own_rows)).encode("utf-8", "replace"), digest_size=8
        ).hexdigest(),
    )
