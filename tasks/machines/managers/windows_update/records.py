"""The records of the scripts, validated, and the classes of updates: what a machine sends is untrusted before. Pure.

The ids of the categories are the same in every language of Windows. Their names are not, so nothing here reads names.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tasks.domain.errors import ProtocolViolation
from tasks.domain.protocols.transport import ScriptRecord, ScriptResult
from tasks.domain.states import Classification
from tasks.rules.machine_checks.report_limits import (
    MAX_ITEMS,
    MAX_TEXT_LENGTH,
    MAX_UPDATES,
    require_count,
    require_length,
)

DEFINITION_CATEGORY: Final = "e0789628-ce08-4437-be74-2495b842f43b"
DRIVER_CATEGORY: Final = "ebfc1fc5-71a4-4f7b-9aca-3b9a503104a0"
UPGRADE_CATEGORY: Final = "3689bdc8-b205-4af4-8d4a-a63924c5e9d5"
UPGRADE_REASON: Final = (
    "fleetpatch does not install upgrades to another version of Windows: the reboot would undo them without "
    "IUpdateInstaller4.Commit, which scripts can't call on every Windows"
)
"""Why an upgrade is not installed. Microsoft requires that call just before the reboot, once. PowerShell reaches COM
objects by name, and whether the agent offers that name differs."""

_CLASSIFICATIONS: Final[Mapping[str, Classification]] = {
    "e6cf1350-c01b-414d-a61f-263d14d133b4": Classification.CRITICAL,
    "0fa1201d-4330-4fa8-8ae9-b877473b6441": Classification.SECURITY,
    "28bc880e-0592-4cbf-8f95-c79b17911d5f": Classification.UPDATE_ROLLUP,
    "68c5b0a3-d1a6-4553-ae49-01d3a7827828": Classification.SERVICE_PACK,
    "b54e7d24-7add-428f-8b75-90a396fa584f": Classification.FEATURE_PACK,
    DEFINITION_CATEGORY: Classification.DEFINITION,
    "b4832bd8-e735-4761-8daf-37f882276dab": Classification.TOOLS,
    "cd5ffd1e-e932-4e3a-bf74-18bf0b1bbd83": Classification.UPDATES,
    UPGRADE_CATEGORY: Classification.OTHER,
    DRIVER_CATEGORY: Classification.OTHER,
    "e140075d-8433-45c3-ad87-e72345b36078": Classification.OTHER,  # developer kits
}
"""The most urgent first: an update in several classes has the first of them."""


def classify(categories: Iterable[str]) -> Classification:
    """Return the classification by the ids of an update's categories; UNCLASSIFIED when none of them is a class."""
    category_ids = {category.strip("{}").lower() for category in categories}
    return next(
        (classification for category, classification in _CLASSIFICATIONS.items() if category in category_ids),
        Classification.UNCLASSIFIED,
    )


def rank_classification(classification: Classification) -> int:
    """Return the place of a classification among those of Windows, the most urgent first."""
    order = tuple(dict.fromkeys(_CLASSIFICATIONS.values()))
    return order.index(classification) if classification in order else len(order)


def explain_optional(categories: Iterable[str], *, is_driver: bool, is_browse_only: bool) -> str:
    """Return why only an include mask selects an update, or "".

    ``is_browse_only``: its publisher offers it only to those who look for it: previews, optional updates.
    """
    category_ids = {category.strip("{}").lower() for category in categories}
    if is_driver or DRIVER_CATEGORY in category_ids:
        return "a driver"
    if is_upgrade(categories):
        return "an upgrade to another version of Windows"
    return "an optional update or a preview" if is_browse_only else ""


def is_upgrade(categories: Iterable[str]) -> bool:
    """Return whether an update installs another version of Windows, by the ids of its categories."""
    return UPGRADE_CATEGORY in {category.strip("{}").lower() for category in categories}


MAX_BELIEVED_BYTES: Final = 5 * 2**30
"""The largest download of an update that is believed."""
_MAX_EPOCH_SECONDS: Final = 10**11
_MAX_BYTES: Final = 2**50
_DRIVER_TYPE: Final = 2


def clean_text(text: str) -> str:
    """Return a text from the machine in one line, without control characters.

    Raises:
        ReportTooLarge: it is longer than a machine's texts may be.
    """
    require_length(text, MAX_TEXT_LENGTH, "of Windows Update")
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _require_few(value: object) -> object:
    if isinstance(value, list):
        require_count(len(value), MAX_ITEMS, "entries of a list of Windows Update")
    return value


Text = Annotated[str, BeforeValidator(lambda value: clean_text(value) if isinstance(value, str) else value)]
Texts = Annotated[list[Text], BeforeValidator(_require_few)]
Guid = Annotated[
    str,
    Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"),
    BeforeValidator(lambda value: value.strip("{}").lower() if isinstance(value, str) else value),
]
Count = Annotated[int, Field(ge=0, lt=2**31)]


def _drop_outside(value: object, limit: int) -> object:
    """Return a number, or None if Windows has put a stopgap in its place: a date of 1899, a negative size."""
    return None if isinstance(value, int) and not 0 < value < limit else value


Epoch = Annotated[int | None, BeforeValidator(lambda value: _drop_outside(value, _MAX_EPOCH_SECONDS))]
Size = Annotated[int | None, BeforeValidator(lambda value: _drop_outside(value, _MAX_BYTES))]


class Record(BaseModel):
    """A record of a script. What is missing has its default: an older script wrote it, or Windows lacks it."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class OfferedUpdate(Record):
    """An update that the agent knows: record "update".

    Attributes:
        kbs: numbers of its articles, without "KB".
        type: 1 software, 2 driver.
        hidden: an administrator has hidden it.
        reboot_required: it is installed, and a reboot completes it.
        impact: 0 normal, 1 minor, 2 it must be installed alone; None when unknown.
        reboot_behavior: 0 never reboots, 1 always, 2 can ask for it; None when unknown.
        published: seconds since the epoch.
    """

    id: Guid
    revision: Count
    title: Text = ""
    kbs: Texts = []
    categories: Texts = []
    severity: Text = ""
    cves: Texts = []
    bulletins: Texts = []
    superseded: Texts = []
    type: int = 1
    installed: bool = False
    hidden: bool = False
    downloaded: bool = False
    browse_only: bool = False
    reboot_required: bool = False
    eula_accepted: bool = True
    max_bytes: Size = None
    published: Epoch = None
    impact: int | None = None
    reboot_behavior: int | None = None
    user_input: bool | None = None

    @property
    def version(self) -> str:
        """Its revision, as ``Update.available`` has it."""
        return format_update_revision(self.revision)

    @property
    def name(self) -> str:
        """The numbers of its articles, or its title when it has none."""
        numbers = [number.upper().removeprefix("KB") for number in self.kbs[:5]]
        return "+".join(f"KB{number}" for number in numbers if number.isalnum()) or self.title or self.id

    @property
    def classification(self) -> Classification:
        """The most urgent class of its categories; UNCLASSIFIED if none of them is a class."""
        return classify(self.categories)

    @property
    def optional(self) -> str:
        """Why only an include mask selects it: it is a driver, an upgrade or a preview. "" otherwise."""
        return explain_optional(self.categories, is_driver=self.type == _DRIVER_TYPE, is_browse_only=self.browse_only)

    @property
    def download_bytes(self) -> int | None:
        """The size of its download at most; None when unknown.

        For a cumulative update, many systems add up all files of all languages and earlier versions: 22 GB for one of
        4 GB. Such a number says nothing about time or room.
        """
        return None if self.max_bytes is None or self.max_bytes > MAX_BELIEVED_BYTES else self.max_bytes

    @property
    def published_at(self) -> datetime | None:
        """When it was published, or last changed by its publisher."""
        return datetime.fromtimestamp(self.published, UTC) if self.published else None


class HistoryEntry(Record):
    """An entry of the agent's history: record "history".

    Attributes:
        operation: 1 installation, 2 removal.
        result_code: 2 succeeded, 3 succeeded with errors, 4 failed, 5 aborted.
    """

    id: Guid
    revision: Count = 0
    at: Epoch = None
    operation: int
    result_code: int
    hresult: int = 0
    title: Text = ""

    @property
    def is_installation(self) -> bool:
        """Whether it was installed then."""
        return self.operation == 1 and self.result_code in {2, 3}

    @property
    def is_removal(self) -> bool:
        """Whether it was removed then."""
        return self.operation == 2 and self.result_code in {2, 3}


class CallRecord(Record):
    """How a call of the agent ended.

    Attributes:
        entry: what was called: "CreateUpdateSearcher".
        denied: whether Windows refused it (0x80070005).
    """

    hresult: int = 0
    message: Text = ""
    entry: Text = ""
    denied: bool = False


class SearchRecord(CallRecord):
    """How a search ended: record "search". ``result_code``: 2 done, 3 done with errors; None: see ``hresult``."""

    result_code: int | None = None


class SystemRecord(Record):
    """The system: record "system". ``at``: the machine's own clock; ``offset_minutes``: its time zone."""

    at: int = Field(gt=0, lt=_MAX_EPOCH_SECONDS)
    offset_minutes: int = Field(default=0, ge=-1440, le=1440)
    uptime: int | None = Field(default=None, ge=0, lt=_MAX_EPOCH_SECONDS)
    boot_time: Epoch = None
    build: Text = ""
    ubr: int | None = None
    edition: Text = ""
    installation_type: Text = ""


_R = TypeVar("_R", bound=Record)


def format_update_revision(revision: int) -> str:
    """Return the version of an update: "rev 200"."""
    return f"rev {revision}"


def parse_record(kind: type[_R], record: ScriptRecord) -> _R:
    """Return a record.

    Raises:
        ProtocolViolation: it is malformed.
    """
    try:
        return kind.model_validate(dict(record))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ProtocolViolation(f"record {record.get('kind')!r}: {key}: {first['msg']}") from error


def parse_records(kind: type[_R], records: Sequence[ScriptRecord]) -> tuple[_R, ...]:
    """Return records.

    Raises:
        ProtocolViolation: one is malformed.
        ReportTooLarge: there are more of them than a machine may report.
    """
    require_count(len(records), MAX_UPDATES, "records of Windows Update")
    return tuple(parse_record(kind, record) for record in records)


def parse_first(kind: type[_R], result: ScriptResult, name: str) -> _R | None:
    """Return the first record of that name, or None if there is none.

    Raises:
        ProtocolViolation: it is malformed.
    """
    records = result.find_records(name)
    return parse_record(kind, records[0]) if records else None


def parse_values(result: ScriptResult, name: str) -> Mapping[str, str]:
    """Return the values of a record's object "values", as text: registry values by their names."""
    records = result.find_records(name)
    values = records[0].get("values") if records else None
    if not isinstance(values, Mapping):
        return {}
    require_count(len(values), MAX_ITEMS, "values of the registry")
    usable = {str(key): value for key, value in values.items() if value is not None}
    return {key: clean_text(str(value)) for key, value in usable.items() if isinstance(value, str | int)}
