"""The records of the scripts for Windows, validated: what a machine sends is untrusted before. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tasks.domain.errors import ProtocolViolation
from tasks.domain.protocols.transport import ScriptRecord, ScriptResult
from tasks.machines.managers.script_output import clean_text
from tasks.rules.machine_checks.report_limits import (
    MAX_ITEMS,
    MAX_TEXT_LENGTH,
    MAX_UPDATES,
    require_count,
    require_length,
)

_MAX_EPOCH_SECONDS: Final = 10**11
_AZURE_EDITION: Final = "serverturbine"  # EditionID of "Datacenter: Azure Edition"; "Cor" follows for Server Core
_MAX_BYTES: Final = 2**50


def _clean(value: object) -> object:
    if not isinstance(value, str):
        return value
    require_length(value, MAX_TEXT_LENGTH, "of Windows Update")
    return clean_text(value)


def _require_few(value: object) -> object:
    if isinstance(value, list):
        require_count(len(value), MAX_ITEMS, "entries of a list of Windows Update")
    return value


Text = Annotated[str, BeforeValidator(_clean)]
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


class CallRecord(Record):
    """How a call of the agent ended."""

    hresult: int = 0
    message: Text = ""
    entry: Text = ""  # what was called: "CreateUpdateSearcher"
    denied: bool = False  # whether Windows refused it (0x80070005)


class SearchRecord(CallRecord):
    """How a search ended: record "search". ``result_code``: 2 done, 3 done with errors; None: see ``hresult``."""

    result_code: int | None = None
    online: bool = False  # whether the update server was asked


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

    @property
    def build_number(self) -> int:
        """The build of Windows as a number; 0 when it is not known."""
        return int(self.build) if self.build.isascii() and self.build.isdigit() else 0

    @property
    def is_azure_edition(self) -> bool:
        """Whether the edition is "Datacenter: Azure Edition", to which hotpatches belong."""
        return self.edition.lower().startswith(_AZURE_EDITION)

    @property
    def is_client(self) -> bool:
        """Whether it is a Windows for people, and no server."""
        return self.installation_type.lower() == "client"

    @property
    def today(self) -> date:
        """The day that its clock shows, in UTC."""
        return datetime.fromtimestamp(self.at, UTC).date()


_R = TypeVar("_R", bound=Record)


def parse_record(kind: type[_R], record: ScriptRecord) -> _R:
    """Return a record. Raise ProtocolViolation if it is malformed."""
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
    """Return the first record of that name, or None if there is none. Raise ProtocolViolation if it is malformed."""
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
    return {key: str(_clean(str(value))) for key, value in usable.items() if isinstance(value, str | int)}


class ErrorRecord(Record):
    """An error that a script did not expect: record "error". ``place``: "at FUNCTION, FILE: line N"."""

    hresult: int = 0
    place: Text = ""


class BusyRecord(Record):
    """Who is at work: record "busy"."""

    # ServicingInProgress of Component Based Servicing: 2 while it works; None when it is not set.
    servicing: int | None = None
    worker: bool = False  # whether TiWorker.exe was at work before the search, which itself starts it.
    installer: bool = False  # whether Windows Installer is at work
