"""Dynamic scopes: expressions that select machines by their properties. They are resolved when a run starts.

The grammar::

    scope  = part { " or " part }             one part must match
    part   = term { "," term }                all terms must match
    term   = [ "!" ] [ key "=" ] values       "!" negates; key "!=" values negates, too
    values = value { "|" value }              one value must match
    key    = name | env | environment | os | group | site | location | availability_zone | mirror | hypervisor | owner
             | transport | address | zone
             | tag.NAME | NAME

A value is a shell-style mask (fnmatch, case-sensitive). Only the first value of a term may contain "=": what was meant
with ``env=prod|env=stage`` would otherwise be one environment less. Any other key is a tag; ``tag.NAME`` is for tags
with the name of a key. ``address`` also accepts a network (10.0.0.0/8). A word without a key is a machine or a group.
``*`` and ``all`` match every machine. ``env=*`` matches machines that have an environment.
"""

import ipaddress
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache

from inventory.data_class import dataclass
from inventory.errors import EmptyScopeError, InventoryError
from inventory.files.problems import did_you_mean
from inventory.machine import Inventory, Machine, OsFamily, PatchOwner, TransportKind
from inventory.name_lists import format_count

logger = logging.getLogger(__name__)

_TAG_PREFIX = "tag."
_NO_COMMON_MATCH_HINT = (
    "Each term matches some machine, but none matches all. Alternatives are written a|b, or with ` or `."
)
_FIELD_READERS: dict[str, Callable[[Machine], tuple[str, ...]]] = {
    "": lambda machine: (machine.name, *machine.groups),
    "name": lambda machine: (machine.name,),
    "env": lambda machine: (machine.environment,),
    "os": lambda machine: (machine.os.value,),
    "group": lambda machine: machine.groups,
    "site": lambda machine: (machine.site,),
    "location": lambda machine: (machine.location,),
    "availability_zone": lambda machine: (machine.availability_zone,),
    "mirror": lambda machine: (machine.mirror,),
    "hypervisor": lambda machine: (machine.hypervisor,),
    "owner": lambda machine: (machine.owner.value,),
    "transport": lambda machine: (machine.transport.value,),
    "address": lambda machine: (machine.address,),
    "zone": lambda machine: (machine.zone,),
}
_KEY_ALIASES = {"environment": "env"}
SCOPE_KEYS = (*(key for key in _FIELD_READERS if key), *_KEY_ALIASES)
_ENUM_KEYS: dict[str, type[StrEnum]] = {"os": OsFamily, "owner": PatchOwner, "transport": TransportKind}
_MASK_CHARACTERS = frozenset("*?[")
_OR_PATTERN = re.compile(r"\s+or\s+")


@dataclass(frozen=True, slots=True)
class ScopeTerm:
    """One condition of a scope."""

    key: str  # one of KEYS, ``tag.NAME``, or "" for a word that is a machine or a group.
    values: tuple[str, ...]  # masks; one of them must match
    negated: bool = False  # whether the term matches if no mask matches

    def matches(self, machine: Machine) -> bool:
        """Return whether the term matches a machine."""
        # A missing value matches no mask. So `env=*` means: the machine has an environment.
        plain_values, masks = _separate_masks(self.key, self.values)
        texts = _find_value_reader(self.key)(machine)
        is_match = not plain_values.isdisjoint(texts) or any(
            text and _matches_mask(self.key, mask, text) for mask in masks for text in texts
        )
        return is_match is not self.negated

    def suggest_values(self, machines: Iterable[Machine]) -> str:
        """Return a suggestion for a term that matches none of these machines."""
        value_reader = _find_value_reader(self.key)
        present = sorted({text for machine in machines for text in value_reader(machine) if text})
        listed = ", ".join(present[:20]) + (" ..." if len(present) > 20 else "")
        return f"{did_you_mean(self.values[0], present)}In this inventory there is: {listed or 'nothing of the kind'}."

    def find_in_inventory(self, inventory: Inventory) -> Sequence[Machine]:
        """Return the machines of an inventory that match. It uses an index, because hundreds of scopes may ask."""
        plain_values, masks = _separate_masks(self.key, self.values)
        if masks or self.negated:
            return self.filter_machines(inventory.machines)
        if (index := inventory.machine_indexes.get(self.key)) is None:
            read_values, index = _find_value_reader(self.key), dict[str, list[int]]()
            for number, machine in enumerate(inventory.machines):
                for value in read_values(machine):
                    index.setdefault(value, []).append(number)
            inventory.machine_indexes[self.key] = index
        numbers = {number for value in plain_values for number in index.get(value, ())}
        return [inventory.machines[number] for number in sorted(numbers)]

    def filter_machines(self, machines: Sequence[Machine]) -> list[Machine]:
        """Return the machines that match, in their order."""
        plain_values, masks = _separate_masks(self.key, self.values)
        if masks:
            return [machine for machine in machines if self.matches(machine)]
        value_reader = _find_value_reader(self.key)
        return [machine for machine in machines if plain_values.isdisjoint(value_reader(machine)) is self.negated]

    def __str__(self) -> str:
        short = self.key.removeprefix(_TAG_PREFIX)
        key = self.key if short in SCOPE_KEYS or short.startswith(_TAG_PREFIX) else short
        return f"{'!' if self.negated else ''}{key}{'=' if key else ''}{'|'.join(self.values)}"


@dataclass(frozen=True, slots=True)
class Scope:
    """A scope. A machine must match all terms, or one of the alternatives. ``parse(str(scope))`` is the same scope."""

    terms: tuple[ScopeTerm, ...]  # conditions that must all match
    alternatives: tuple["Scope", ...] = ()  # other scopes; one match is enough

    @classmethod
    def parse(cls, text: str) -> "Scope":
        """Parse a scope.

        Raises:
            InventoryError: the scope is invalid. The hint shows the syntax.
        """
        if not text.strip():
            raise InventoryError("the scope is empty", hint="Write `all` for every machine, or for example env=prod.")
        parts = []
        for part in _OR_PATTERN.split(f" {text} "):
            if not part.strip():
                raise _build_error("there is nothing on one side of `or`", text, "Write a scope on each side of it.")
            parts.append(cls(tuple(_parse_term(term.strip(), text) for term in part.split(","))))
        return cls(parts[0].terms, tuple(parts[1:]))

    def matches(self, machine: Machine) -> bool:
        """Return whether a machine matches. This does not detect typing errors; ``select_machines`` does."""
        return all(term.matches(machine) for term in self.terms) or any(
            alternative.matches(machine) for alternative in self.alternatives
        )

    def select_machines(self, inventory: Inventory) -> tuple[Machine, ...]:
        """Return the machines that match, in the order of the inventory.

        Raises:
            InventoryError: no machine has the tag of a term.
            EmptyScopeError: no machine matches. The message says how many machines each term leaves.
        """
        self._check_terms(inventory)
        selections: list[Sequence[Machine]] = []
        for part in (Scope(self.terms), *self.alternatives):
            first, *further = part.terms
            matching = first.find_in_inventory(inventory)
            for term in further:
                matching = term.filter_machines(matching)
            if self.alternatives and not matching:
                logger.warning("in the scope %s, no machine matches %s", self, part)
            selections.append(matching)
        if not any(selections):
            raise self._build_empty_error(inventory)
        if not self.alternatives:
            return tuple(selections[0])
        names = {machine.name for selection in selections for machine in selection}
        return tuple(machine for machine in inventory.machines if machine.name in names)

    def _check_terms(self, inventory: Inventory) -> None:
        """Raise if no machine has the tag of a term, and warn of terms and values that change nothing."""
        machines = inventory.machines
        for term in (*self.terms, *(term for alternative in self.alternatives for term in alternative.terms)):
            _require_known_tag(term, machines)
            if term.negated and len(term.filter_machines(machines)) == len(machines):
                logger.warning("the term %s of the scope %s leaves nothing out", term, self)
            elif len(term.values) > 1:
                for value in term.values:
                    alone = ScopeTerm(term.key, (value,))
                    if not alone.find_in_inventory(inventory):
                        advice = alone.suggest_values(inventory.machines)
                        logger.warning("in the scope %s, no machine matches %r of %s. %s", self, value, term, advice)

    def __str__(self) -> str:
        return " or ".join([",".join(str(term) for term in self.terms), *map(str, self.alternatives)])

    def _build_empty_error(self, inventory: Inventory) -> EmptyScopeError:
        remaining = list(inventory.machines)
        steps, barren = [], None
        for term in self.terms:
            alone = sum(term.matches(machine) for machine in inventory.machines)
            remaining = [machine for machine in remaining if term.matches(machine)]
            steps.append(f"{term} matches {alone}, {len(remaining)} left")
            barren = term if alone == 0 and barren is None else barren
        counted = f"of {format_count(len(inventory.machines), 'machine')}, {'; '.join(steps)}"
        if self.alternatives:
            counted += "; what stands after `or` matches none either"
        hint = barren.suggest_values(inventory.machines) if barren else _NO_COMMON_MATCH_HINT
        return EmptyScopeError(f"no machine is in the scope {str(self)!r}: {counted}", hint=hint)

    def __post_init__(self) -> None:
        if not self.terms:
            raise InventoryError("a scope has at least one term", hint="Write `all` for every machine.")


def _parse_term(text: str, scope: str) -> ScopeTerm:
    negated = text.startswith("!")
    body = text.removeprefix("!").strip()
    key, equals, values_text = body.partition("=")
    if not equals:
        key, values_text = "", body
    elif key.endswith("!"):
        if negated:
            raise _build_error(f"{text!r} is turned round twice", scope, "Write !key=value or key!=value, not both.")
        key, negated = key.removesuffix("!"), True
    key = _normalize_key(key.strip(), text, scope) if equals else ""
    values = tuple(dict.fromkeys(value.strip() for value in values_text.split("|")))
    values = tuple("*" if value == "all" and not key else value for value in values)
    for value in values:
        _require_valid_value(key, value, text, scope)
    if key_again := next((value for value in values[1:] if "=" in value), ""):
        parts = [part.strip() for part in body.split("|")]
        is_one_key = {part.partition("=")[0] for part in parts} == {body.partition("=")[0].strip()}
        remedy = (
            f"{parts[0]}|{'|'.join(part.partition('=')[2] for part in parts[1:])}" if is_one_key else " or ".join(parts)
        )
        hint = f"Write {remedy}. Within a value, write ? in place of =."
        raise _build_error(f"{key_again!r} behind the | of {text!r} has a key again", scope, hint)
    return ScopeTerm(key, values, negated)


def _normalize_key(key: str, text: str, scope: str) -> str:
    if not key or key == _TAG_PREFIX or any(character in " \t!|*?[]" for character in key):
        raise _build_error(
            f"{text!r} has no usable key before '='", scope, f"Keys are {', '.join(SCOPE_KEYS)}, or the name of a tag."
        )
    key = _KEY_ALIASES.get(key, key)
    return key if key in _FIELD_READERS or key.startswith(_TAG_PREFIX) else f"{_TAG_PREFIX}{key}"


def _require_valid_value(key: str, value: str, text: str, scope: str) -> None:
    if not value:
        hint = "Write one, or key=* for machines that have one, or !key=* for those that have none."
        raise _build_error(f"{text!r} lacks a value" if text else "there is nothing between two commas", scope, hint)
    if value.startswith("!"):
        raise _build_error(f"{text!r} turns a value round", scope, "Put the ! before the key: !key=value.")
    if key == "address" and "/" in value:
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError as error:
            raise _build_error(f"{value!r} is no network", scope, "Write it as 10.0.0.0/8 or 2001:db8::/32.") from error
    if key in _ENUM_KEYS and not _MASK_CHARACTERS & set(value) and value not in list(_ENUM_KEYS[key]):
        options = [member.value for member in _ENUM_KEYS[key]]
        hint = f"{did_you_mean(value, options)}Write one of {', '.join(options)}."
        raise _build_error(f"{value!r} is not one of {', '.join(options)}", scope, hint)


def _build_error(message: str, scope: str, hint: str) -> InventoryError:
    return InventoryError(f"in the scope {scope!r}: {message}", hint=hint)


@lru_cache(maxsize=4096)
def _separate_masks(key: str, values: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Split values into plain words and masks. Plain words need only a look-up."""
    masks = tuple(value for value in values if _MASK_CHARACTERS & set(value) or (key == "address" and "/" in value))
    return frozenset(values).difference(masks, {""}), masks


@lru_cache(maxsize=1024)
def _find_value_reader(key: str) -> Callable[[Machine], tuple[str, ...]]:
    """Return the function that reads the values of a key from a machine."""
    if not key.startswith(_TAG_PREFIX):
        return _FIELD_READERS[key]
    name = key.removeprefix(_TAG_PREFIX)
    return lambda machine: (machine.tags.get(name, ""),)


def _matches_mask(key: str, value: str, text: str) -> bool:
    if key == "address" and "/" in value:
        try:
            return ipaddress.ip_address(text) in ipaddress.ip_network(value, strict=False)
        except ValueError:
            return False  # a host name belongs to no network that fleetpatch knows
    return fnmatchcase(text, value)


def _require_known_tag(term: ScopeTerm, machines: Sequence[Machine]) -> None:
    """Raise if no machine has the tag. Otherwise a typing error would silently match nothing, or everything."""
    name = term.key.removeprefix(_TAG_PREFIX)
    if not term.key.startswith(_TAG_PREFIX) or any(name in machine.tags for machine in machines):
        return
    known_tags = {tag for machine in machines for tag in machine.tags}
    options = sorted(known_tags | set(SCOPE_KEYS))
    tags = ", ".join(sorted(known_tags)) or "none"
    hint = f"{did_you_mean(name, options)}Keys are {', '.join(SCOPE_KEYS)}; tags here are {tags}."
    raise InventoryError(f"no machine has a tag {name!r}, which the scope asks for in {str(term)!r}", hint=hint)
