"""The nouns of components: applications beside the system's packages, such as agents and exporters.

Azure calls them extensions. A component has a list of versions, and each machine one of them, or none.
"""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import Final

from inventory.data_class import dataclass
from inventory.machine import Check, OsFamily
from tasks.domain.images import IMAGE_PREFIX, ImageModel, RolloutLimits

COMPONENT_PREFIX: Final = "component:"
"""The ids of updates of components begin with it: no package and no update of Windows has such an id."""
DISK_PREFIX: Final = f"{COMPONENT_PREFIX}{IMAGE_PREFIX}"
"""The ids of updates of groups of images.yaml begin with it: a new OS disk."""
DEFAULT_HEALTH_SECONDS: Final = 300.0
"""How long a machine may take to be healthy after an upgrade, from when it answers. Azure waits 5 minutes."""
DEFAULT_SOAK_SECONDS: Final = 300.0
"""How long it must then stay healthy, before its batch counts as upgraded."""
DEFAULT_CANARY_PAUSE_SECONDS: Final = 600.0
"""How long the others wait after the last batch of canaries. Then all upgraded machines are asked again."""


def build_upgrade_command(component: str) -> str:
    """Return the command that upgrades a component of that name, as people type it."""
    if component.startswith(IMAGE_PREFIX):
        return f"fleetpatch images upgrade {component.removeprefix(IMAGE_PREFIX)}"
    return f"fleetpatch components upgrade {component}"


def build_way_back_command(component: str, machine: str, version: str | None) -> str:
    """Return the command that brings a machine to another version; a group of images goes there as a whole."""
    command = build_upgrade_command(component)
    scope = "" if component.startswith(IMAGE_PREFIX) else f" {machine}"
    return f"{command}{scope} --to {version or 'VERSION'}"


@dataclass(frozen=True, slots=True)
class ComponentVersion:
    """One version of a component, and where it comes from.

    Attributes:
        version: as the machine reports it when it is installed.
        url: where the machine downloads its file; "": not from there.
        file: the path of its file on the controller, which sends it to the machine; "": not from there.
        digest: of the file, with its algorithm and in small letters, such as `sha256:ab…`; "": it has no file.
        reference: what the package manager calls it, if that is not ``version``: a snap's revision, a commit.
        withdrawn: why nobody gets it any more, or "".
        is_kept: only the journal of a run still has it. It is a way back, and comes to nobody by itself.
    """

    version: str
    url: str = ""
    file: str = ""
    digest: str = ""
    reference: str = ""
    withdrawn: str = ""
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class Component:
    """A component: how it is asked for its version, installed, judged and put back.

    Attributes:
        kind: how it is asked for its version and installed: a name of the table of drivers.
        family: the systems that have it. A machine of another family is not supported.
        package: its name in the package manager, or the display name of the product. "": as ``name``.
        version_command: prints the installed version on the machine. "": the kind has a question of its own.
        version_pattern: a regular expression with one group, which finds the version in that output.
        install: the command that installs its file, if its kind does not do that. It finds FLEETPATCH_FILE,
            FLEETPATCH_VERSION, FLEETPATCH_COMPONENT and the settings.
        roll_back: the command that puts a previous version back; "": the installation of that version does.
        health: checks of the component beside the probes of the machine.
        health_seconds: how long they may take to be good after an upgrade, from when the machine answers.
        soak_seconds: how long they must then stay good.
        canary_pause_seconds: the pause after the batches of canaries.
        settings: variables of the commands. The next version gets the same ones. Never secrets.
        after: components that are upgraded before this one.
        canary_locations: locations whose machines are first; empty: the first location by name.
        versions: from the oldest to the newest.
        limits: of its way through the machines.
        image: how machines get its versions as new OS disks; None: it is no group of images.yaml.
    """

    name: str
    kind: str
    family: OsFamily
    versions: tuple[ComponentVersion, ...]
    package: str = ""
    version_command: str = ""
    version_pattern: str = ""
    install: str = ""
    roll_back: str = ""
    health: tuple[Check, ...] = ()
    health_seconds: float = DEFAULT_HEALTH_SECONDS
    soak_seconds: float = DEFAULT_SOAK_SECONDS
    canary_pause_seconds: float = DEFAULT_CANARY_PAUSE_SECONDS
    settings: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    canary_locations: tuple[str, ...] = ()
    limits: RolloutLimits = RolloutLimits()
    image: ImageModel | None = None

    @property
    def update_id(self) -> str:
        """The id of its updates in plans and results."""
        return f"{COMPONENT_PREFIX}{self.name}"

    @property
    def watch_seconds(self) -> float:
        """How long a machine is watched at the longest, while it answers."""
        return self.health_seconds + self.soak_seconds

    @property
    def label(self) -> str:
        """Its name as people write it, also of a group of images."""
        return self.name.removeprefix(IMAGE_PREFIX)

    @property
    def command(self) -> str:
        """The command that upgrades it, as people type it."""
        return build_upgrade_command(self.name)

    def find_version(self, version: str) -> ComponentVersion | None:
        """Return the version of that text, or None."""
        return next((known for known in self.versions if known.version == version), None)


@dataclass(frozen=True, slots=True)
class InstalledComponent:
    """What a machine says of one component.

    Attributes:
        version: None when it is not installed, or when that is not known.
        problem: why the version is not known, or "".
    """

    name: str
    version: str | None = None
    problem: str = ""


class ComponentStanding(StrEnum):
    """How a component stands on a machine. Azure's word where it has one."""

    UNKNOWN = "Unknown"  # the machine did not tell its version, or was not asked
    NOT_INSTALLED = "NotInstalled"
    NOT_SUPPORTED = "Not supported"  # a component of another family of systems
    NON_CURRENT = "NonCurrent"  # its version was withdrawn, and none is there that would come by itself
    UNLISTED = "Unlisted"  # a version that the file does not have: it could not be put back
    CURRENT = "Current"  # nothing newer within its major version
    MAJOR_AVAILABLE = "MajorAvailable"  # only a newer major version, which people have to order
    PENDING = "Pending"  # a newer minor version
    RETRY_LATER = "RetryLater"  # it failed with a newer minor version, here or on too many machines

    @property
    def is_unsettled(self) -> bool:
        """Whether an enrolled machine in it lacks what people believe it gets."""
        return self in {
            ComponentStanding.UNKNOWN,
            ComponentStanding.NON_CURRENT,
            ComponentStanding.UNLISTED,
            ComponentStanding.RETRY_LATER,
        }


class AutomaticUpgrade(StrEnum):
    """Whether a component is upgraded by itself on a machine: the words of Azure's column "Automatic upgrade"."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"
    NOT_SUPPORTED = "Not supported"


@dataclass(frozen=True, slots=True)
class ComponentEnrolment:
    """A person's order to upgrade a component by itself on the machines of a scope.

    Attributes:
        role_scope: of the person's role: no other machine gets it, also none that is added later. "": no limit.
    """

    component: str
    scope: str
    by: str
    at: datetime
    role_scope: str = ""


@dataclass(frozen=True, slots=True)
class ComponentTry:
    """An upgrade of a component that a run began on a machine, and that has ended.

    Attributes:
        version: the version that was to be installed.
        succeeded: whether it is there, and the machine was healthy with it.
        was_refused: whether nothing was changed on the machine: its provider refused the order, or its job never began.
        version_before: the version that the machine had before; "": none that is known.
        version_after: the version that it told at the end; None: none, or it was not asked.
    """

    component: str
    machine: str
    run_id: str
    version: str
    at: datetime
    succeeded: bool
    reason: str = ""
    was_refused: bool = False
    version_before: str = ""
    version_after: str | None = None


@dataclass(frozen=True, slots=True)
class ComponentOrder:
    """What a run upgrades: one component.

    Attributes:
        wanted: the version that a person orders; "": what comes by itself.
        tries: earlier tries of this component, on all machines.
        held_back: machines that wait for another component, each with the reason.
        enrolled: by machine, the components that are enrolled there: a new OS disk gets them again.
        rolls_back: whether the version before is put back on a machine that is not healthy.
    """

    component: Component
    wanted: str = ""
    tries: tuple[ComponentTry, ...] = ()
    held_back: Mapping[str, str] = field(default_factory=dict)
    enrolled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rolls_back: bool = True
