"""Checks the chain of the audit log: whether entries were changed, added, removed or cut off."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

from inventory.data_class import dataclass
from inventory.files.own_keys import KeyFileError
from tasks.domain.errors import RecordsError
from tasks.domain.rows.audit import AuditEntry
from tasks.records.audit.log import SqlAuditLog
from tasks.records.audit.seals_and_heads import AuditHead, is_sealed_by, parse_cut, parse_missed, read_audit_key

MAX_FAULTS: Final = 100
"""How many faults are named. All are counted."""

KeyReader = Callable[[str], bytes | None]
"""Returns the key with an id; None if it is not here."""


class AuditState(StrEnum):
    """What a check of the audit log has found."""

    INTACT = "intact"
    END_UNKNOWN = "end unknown"
    """The chain is intact, and nothing outside of the database says where it ends."""
    EMPTY = "empty"
    BROKEN = "broken"
    CUT_SHORT = "cut short"
    """The newest entries are gone, and the rest is intact."""
    KEY_MISSING = "key missing"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class AuditFault:
    """What is wrong at an entry."""

    number: int  # the entry
    text: str  # what differs, after "entry NUMBER"


@dataclass(frozen=True, slots=True)
class AuditVerification:
    """The result of a check."""

    state: AuditState
    entries: int = 0  # how many entries were read
    first: int = 0  # the number of the oldest one; 0 for none
    last: AuditHead | None = None  # the newest one; None for none
    faults: tuple[AuditFault, ...] = ()  # the first of them, by number
    fault_count: int = 0  # how many there are
    message: str = ""  # what else is to be said: why it is unreadable, or which key is missing
    cuts: tuple[AuditEntry, ...] = ()  # the entries that record the removal of older ones


def verify_log(log: SqlAuditLog, expected: AuditHead | None = None, *, newest: int | None = None) -> AuditVerification:
    """Check the audit log. It raises nothing: that it can't be read is a result.

    Args:
        log: the log.
        expected: an entry that must be in it, as a syslog server has it; None: only what this computer knows.
        newest: check only so many of the newest entries; None: all.
    """
    try:
        head = log.read_head()  # before the entries: others add some meanwhile
        heads = tuple(known_head for known_head in (head, expected) if known_head is not None)
        last = max((entry.number for entry in log.read(1)), default=0)
        after = None if newest is None or last <= newest else last - newest
        chain = ChainCheck(read_audit_key, heads, is_whole=after is None)
        for entry in log.iterate(after):
            chain.check(entry)
        return chain.conclude()
    except (RecordsError, KeyFileError) as error:
        return AuditVerification(AuditState.UNREADABLE, message=error.message)


class ChainCheck:
    """A check that goes from entry to entry.

    ``known``: entries that must be in the log.
    ``is_whole``: whether the entries begin with the log's first one.
    """

    def __init__(self, read_key: KeyReader, known: Sequence[AuditHead], *, is_whole: bool) -> None:
        self._read_key = read_key
        self._is_whole = is_whole
        self._known = tuple(known)
        self._keys: dict[str, bytes | None] = {}
        self._entries = self._verified = self._fault_count = 0
        self._opening: AuditEntry | None = None
        self._last: AuditEntry | None = None
        self._faults: list[AuditFault] = []
        self._cuts: list[AuditEntry] = []

    def check(self, entry: AuditEntry) -> None:
        """Check the next entry: its seal, and that it follows the one before."""
        self._entries += 1
        self._opening = self._opening or entry
        self._check_seal(entry)
        if self._last is not None and entry.number != self._last.number + 1:
            self._add_fault(entry.number, f"is the next after {self._last.number}: {_name_gap(self._last, entry)} gone")
        elif self._last is not None and entry.previous != self._last.seal:
            self._add_fault(entry.number, f"does not follow entry {self._last.number} as that is now")
        if any(head.number == entry.number and head.seal != entry.seal for head in self._known):
            self._add_fault(entry.number, "is not the one that was seen when it was stored")
        self._last = entry

    def _check_seal(self, entry: AuditEntry) -> None:
        key_id = str(entry.key_id)
        if key_id not in self._keys:
            self._keys[key_id] = self._read_key(key_id)
        key = self._keys[key_id]
        if key is None:
            self._add_fault(entry.number, f"is sealed with a key that is not here ({key_id or 'none'})")
        elif not is_sealed_by(entry, key):
            self._add_fault(entry.number, "was changed, or added without the key: it does not fit its seal")
        else:
            self._verified += 1
            if parse_cut(entry) is not None:
                self._cuts.append(entry)
            missed = parse_missed(entry)
            if missed is not None and self._opening is not None and missed.number >= self._opening.number:
                text = f"is not the one that was seen when it was stored: entry {entry.number} says so"
                self._add_fault(missed.number, text)

    def _add_fault(self, number: int, text: str) -> None:
        self._fault_count += 1
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(AuditFault(number, text))

    def conclude(self) -> AuditVerification:
        """Return the result, after the last entry."""
        self._check_opening()
        end = self._last.number if self._last is not None else 0
        lost = max((head.number for head in self._known if head.number > end), default=0)
        missing = sorted(key_id or "none" for key_id, key in self._keys.items() if key is None)
        state, message = self._choose_state(is_cut_short=bool(lost), is_key_missing=bool(missing)), ""
        if state is AuditState.KEY_MISSING:
            message = f"no entry can be checked: the key is not here ({', '.join(missing)})"
        elif lost:
            gone = f"entry {lost} is" if lost == end + 1 else f"entries {end + 1} to {lost} are"
            message = f"{gone} gone from the end"
        return AuditVerification(
            state,
            self._entries,
            self._opening.number if self._opening is not None else 0,
            AuditHead(end, str(self._last.seal)) if self._last is not None else None,
            tuple(self._faults),
            self._fault_count,
            message,
            tuple(self._cuts),
        )

    def _check_opening(self) -> None:
        """Check that the log begins with entry 1, or behind a recorded cut."""
        opening = self._opening
        if opening is None or not self._is_whole or (opening.number == 1 and not opening.previous):
            return
        removed = [cut for cut in map(parse_cut, self._cuts) if cut is not None]
        if AuditHead(opening.number - 1, opening.previous) not in removed:
            text = "entry 1 is" if opening.number == 2 else f"entries 1 to {opening.number - 1} are"
            self._add_fault(opening.number, f"is the first: {text} gone, and no cut is recorded")

    def _choose_state(self, *, is_cut_short: bool, is_key_missing: bool) -> AuditState:
        if is_key_missing and not self._verified:
            return AuditState.KEY_MISSING
        if self._fault_count:
            return AuditState.BROKEN
        if is_cut_short:
            return AuditState.CUT_SHORT
        if not self._entries:
            return AuditState.EMPTY
        return AuditState.INTACT if self._known else AuditState.END_UNKNOWN


def _name_gap(last: AuditEntry, entry: AuditEntry) -> str:
    first, final = last.number + 1, entry.number - 1
    return f"entry {first} is" if first == final else f"entries {first} to {final} are"


def describe_verification(verification: AuditVerification, fault_count: int = 1) -> str:
    """Return the state of an audit log in one line, with so many of its faults, or else the message."""
    faults = "; ".join(f"entry {fault.number} {fault.text}" for fault in verification.faults[:fault_count])
    reason = faults or verification.message
    return verification.state.value + (f": {reason}" if reason else "")
