"""What is known and decided of the guests of a hypervisor host. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from inventory.data_class import dataclass
from inventory.guests import GuestAction
from inventory.name_lists import join_first_names
from tasks.domain.protocols.records import JournalEntry, JournalMark

GUESTS_ACT = "guests"
"""The act of journal entries about guests: before they are put away, and after all of them are back."""
MAX_NAMES = 5


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest that runs on a host, or that is paused there."""

    id: str  # kind and number: ``libvirt:UUID``, ``qemu:100`` or ``lxc:101``
    name: str
    is_paused: bool = False
    disks: str = (
        "alike"  # "other": its next start would be from other files than it has now; "unknown": the host does not say
    )


@dataclass(frozen=True, slots=True)
class GuestList:
    """The guests of a host at one moment."""

    guests: tuple[Guest, ...] = ()
    unread: str = ""  # why a hypervisor did not tell; then it is not known what runs there

    @property
    def running(self) -> tuple[Guest, ...]:
        """Those that run."""
        return tuple(guest for guest in self.guests if not guest.is_paused)


@dataclass(frozen=True, slots=True)
class AwayGuests:
    """The guests that a run has put away, as the journal has them, and how."""

    guests: tuple[Guest, ...] = ()
    action: GuestAction = GuestAction.SHUTDOWN  # with which they went away; it decides how they come back
    target: str = ""  # the host to which they moved; "": to none


def explain_no_departure(listed: GuestList, action: GuestAction) -> str:
    """Return why the guests of a host can't be put away; "": they can."""
    if listed.unread:
        return f"which guests run is not known: {listed.unread}"
    paused = [guest for guest in listed.guests if guest.is_paused]
    if paused:
        return f"guests are paused, and would be lost: {describe_guests(paused)}"
    containers = [guest for guest in listed.running if guest.id.startswith("lxc:")]
    if action is GuestAction.PAUSE and containers:
        return f"containers can't be paused: {describe_guests(containers)}"
    if action is not GuestAction.MOVE and (changed := [guest for guest in listed.running if guest.disks == "other"]):
        return f"guests would start again from other disks than they run with: {describe_guests(changed)}"
    if action is not GuestAction.MOVE and (unread := [guest for guest in listed.running if guest.disks == "unknown"]):
        return f"from which disks guests would start again is not known: {describe_guests(unread)}"
    return ""


def describe_guests(guests: Iterable[Guest]) -> str:
    """Return the names of guests."""
    return join_first_names([guest.name or guest.id for guest in guests], MAX_NAMES)


def find_missing(wanted: Sequence[Guest], listed: GuestList) -> tuple[Guest, ...]:
    """Return those of the guests that should run, and do not."""
    running = {guest.id for guest in listed.running}
    return tuple(guest for guest in wanted if guest.id not in running)


def build_away_detail(away: AwayGuests) -> dict[str, object]:
    """Return the detail of the journal entry before guests are put away."""
    return {
        "guests": [[guest.id, guest.name] for guest in away.guests],
        "action": away.action.value,
        "target": away.target,
    }


def find_away(entries: Iterable[JournalEntry]) -> AwayGuests:
    """Return the guests that a run has put away, or was about to, and that are not back.

    A run that was interrupted may have listed them twice: those that ran at first count, too.
    """
    guests: dict[str, Guest] = {}
    away = AwayGuests()
    for entry in entries:
        if entry.act != GUESTS_ACT:
            continue
        if entry.mark is JournalMark.AFTER:
            guests, away = {}, AwayGuests()
            continue
        away = _parse_detail(entry.detail)
        guests |= {guest.id: guest for guest in away.guests}
    return AwayGuests(tuple(guests.values()), away.action, away.target)


def _parse_detail(detail: Mapping[str, object]) -> AwayGuests:
    listed = detail.get("guests")
    pairs = [pair for pair in listed if isinstance(pair, list)] if isinstance(listed, list) else []
    guests = tuple(Guest(str(pair[0]), str(pair[-1])) for pair in pairs if pair)
    return AwayGuests(guests, GuestAction(str(detail.get("action"))), str(detail.get("target") or ""))
