"""The rules about what runs may do on which machines, with their words, and what a run asks for. Pure data."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Self

from inventory.data_class import dataclass
from inventory.machine import Machine
from inventory.scope import Scope
from tasks.domain.model import Window
from tasks.domain.states import Classification, RebootPolicy
from tasks.rules.calendar.freezes import Freeze, build_freeze

ANY_LOGIN = "*"
"""In a list of approvers: anybody whose name a login proves."""
ROLE_PREFIX = "role:"
"""In a list of approvers: anybody whose login at the pages has this role."""


class RiskyOption(StrEnum):
    """The options and acts that a rule can forbid. The words of policy.yaml."""

    ALLOW_REMOVALS = "allow_removals", "updates that remove other packages"
    REMOVE_UNUSED_KERNELS = "remove_unused_kernels", "the removal of unused kernels"
    ACCEPT_LICENCES = "accept_licences", "the acceptance of licence terms"
    REPAIR = "repair", "the repair of interrupted package transactions"
    HOOKS = "hooks", "hooks of the request"
    INCLUDE = "include", "updates that the request includes by name, of whatever classification"
    NEWEST = "newest", "the newest version where a security fix would do"
    OUTSIDE_WINDOW = "outside_window", "a configuration's run outside of its windows"
    GO_ON_AFTER_FAILED_CANARY = "go_on_after_failed_canary", "going on after a failed canary"
    REBOOT_PENDING_FIRST = "reboot_pending_first", "a reboot before the installation"
    RESTART_SERVICES = "restart_services", "restarts of services"
    PAUSE_UPDATERS = "pause_updaters", "pausing the system's own updaters"
    PATCHED_BY_OTHERS = "patched_by_others", "patching a machine that others patch, with no more than a remark"
    NO_REFRESH = "no_refresh", "planning from old package lists"
    NO_STAGE = "no_stage", "installing before everything is downloaded"
    HOTPATCH = "hotpatch", "changes of the enrolment for hotpatches and live patches"
    OWN_UPDATERS = "own_updaters", "switching the system's own updaters on or off for good"
    FORWARDER = "forwarder", "laying the forwarder of scheduled events down, or taking it away"
    OWNER = "owner", "changes of who patches a machine"
    REVERT = "revert", "putting OS disks back to a snapshot"
    DELETE_SNAPSHOTS = "delete_snapshots", "deleting snapshots that runs have taken"
    FETCH_IMAGES = "fetch_images", "fetching images of publishers onto hosts"
    OVERRIDE_FREEZE = "override_freeze", "patching in a freeze of the configurations"

    meaning: str  # for refusals and documents

    def __new__(cls, word: str, meaning: str) -> Self:
        """Return the option whose value is the word."""
        option = str.__new__(cls, word)
        option._value_, option.meaning = word, meaning
        return option


@dataclass(frozen=True, slots=True)
class PolicyFreeze:
    """A time in which no machine of a rule is changed. Times without an offset are those of each machine's own zone."""

    start: datetime
    end: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One rule. None and empty values limit nothing."""

    name: str  # unique among the rules of a file
    scope: Scope
    place: str = ""  # where it stands: ``policy.yaml:12``.
    ask: str = ""  # whom to ask, for refusals
    # Who may approve: names, ``role:approve``, or ANY_LOGIN; None: no approval is needed.
    approvers: frozenset[str] | None = None
    freezes: tuple[PolicyFreeze, ...] = ()
    forbidden: frozenset[RiskyOption] = frozenset()
    hooks: frozenset[str] | None = None  # the only hook targets that are allowed, as the request writes them
    classifications: frozenset[Classification] | None = None
    reboots: frozenset[RebootPolicy] | None = None
    # The length that a window may have, with the lead in which hooks before the run run.
    longest_window_minutes: float | None = None
    failure_budget_percent: float | None = None  # the share of a run's machines that may fail
    unreachable_percent: float | None = None  # the share of a run's machines that may be unreachable
    at_once_percent: float | None = None  # the share of the rule's machines that a run may patch at the same time

    def select_machines(self, machines: Iterable[Machine]) -> tuple[Machine, ...]:
        """Return those machines that the rule is about."""
        return tuple(machine for machine in machines if self.scope.matches(machine))

    def build_freezes(self, zones: Iterable[str]) -> tuple[Freeze, ...]:
        """Return its freezes as instants, once for each zone (IANA names) in which they are read.

        Raises:
            RequestError: a zone is unknown, or a freeze ends before it begins.
        """
        return tuple(
            dict.fromkeys(
                build_freeze(freeze.start, freeze.end, zone, self._describe_freeze(freeze))
                for freeze in self.freezes
                for zone in sorted(zones)
            )
        )

    def _describe_freeze(self, freeze: PolicyFreeze) -> str:
        return f"{freeze.reason} (policy rule {self.name})" if freeze.reason else f"policy rule {self.name}"


@dataclass(frozen=True, slots=True)
class InventoryLimit:
    """The inventories that runs may use. Rules select machines by what an inventory says of them."""

    place: str  # the file, for refusals
    paths: frozenset[str]  # absolute paths


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy file that was read."""

    path: str  # for people
    digest: str  # SHA-256 of its text, in hex


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules that hold here."""

    rules: tuple[PolicyRule, ...] = ()
    inventory_limits: tuple[InventoryLimit, ...] = ()
    files: tuple[PolicyFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Starter:
    """Who starts or resumes a run."""

    name: str = ""  # as in the records
    is_known: bool = True  # whether the name is more than a guess
    scope: Scope | None = None  # the scope of the role ``run``; None: the role is not limited, or the door has no roles


@dataclass(frozen=True, slots=True)
class RunDemands:
    """What a patch request asks for, as far as rules are about it."""

    window: Window
    lead_minutes: float = 0  # the time before the window in which hooks may run; 0: there is none
    is_download: bool = False  # whether it only downloads: then freezes and approvals don't hold
    options: frozenset[RiskyOption] = frozenset()
    hooks: frozenset[str] = frozenset()  # the targets of its hooks
    classifications: frozenset[Classification] = frozenset()
    reboot: RebootPolicy = RebootPolicy.IF_REQUIRED
    failure_budget_count: int | None = None  # machines that may fail; None: the percentage counts
    failure_budget_percent: float = 0
    unreachable_percent: float = 0
    inventory: str = ""  # the absolute path of the inventory; "" if it is not a file


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a rule refuses a run."""

    place: str  # the rule's name, file and line; "" for the scope of a role
    key: str
    reason: str  # in a sentence without its end
    machines: tuple[str, ...] = ()
    ask: str = ""


@dataclass(frozen=True, slots=True)
class PolicyDecision:
    """What the rules say about a run."""

    refusals: tuple[Refusal, ...] = ()
    # The rules that are about its machines, with the names of these machines.
    rules: tuple[tuple[PolicyRule, tuple[str, ...]], ...] = ()
    # One set for each rule that demands an approval: who approves must be in each. Empty: none is needed.
    approvers: tuple[frozenset[str], ...] = ()
    freezes: tuple[Freeze, ...] = ()  # those that hold for the run, whatever the request says
    at_once: int | None = None  # how many machines may be patched at the same time; None: as many as the request says


def describe_limits(rule: PolicyRule) -> tuple[tuple[str, str], ...]:
    """Return the keys of what a rule limits, each with its words."""
    limits = (
        ("approval", rule.approvers is not None and f"by {', '.join(sorted(rule.approvers))}, never by the starter"),
        ("freezes", "; ".join(_describe_freeze(freeze) for freeze in rule.freezes)),
        ("forbid", "; ".join(f"{option} ({option.meaning})" for option in sorted(rule.forbidden))),
        ("hooks", rule.hooks is not None and (f"only {', '.join(sorted(rule.hooks))}" if rule.hooks else "none")),
        ("classifications", rule.classifications and f"only {', '.join(sorted(rule.classifications))}"),
        ("reboots", rule.reboots and f"only {', '.join(sorted(rule.reboots))}"),
        ("longest_window", _describe_number(rule.longest_window_minutes, "minutes")),
        ("failure_budget_percent", _describe_number(rule.failure_budget_percent, "% of a run's machines")),
        ("unreachable_percent", _describe_number(rule.unreachable_percent, "% of a run's machines")),
        ("at_once_percent", _describe_number(rule.at_once_percent, "% of the rule's machines")),
    )
    return tuple((key, limit_text) for key, limit_text in limits if limit_text)


def _describe_number(value: float | None, unit: str) -> str:
    return f"at most {value:g} {unit}" if value is not None else ""


def _describe_freeze(freeze: PolicyFreeze) -> str:
    reason = f" ({freeze.reason})" if freeze.reason else ""
    return f"{freeze.start:%Y-%m-%d %H:%M} to {freeze.end:%Y-%m-%d %H:%M}{reason}"
