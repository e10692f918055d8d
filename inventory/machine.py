"""Who is patched: machines, how they are reached, and what their owners ask for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class TransportKind(StrEnum):
    """How a machine is reached."""

    SSH = "ssh"
    WINRM = "winrm"
    LOCAL = "local"


class OsFamily(StrEnum):
    """What kind of system a machine runs; the exact distribution is a fact asked of the machine."""

    LINUX = "linux"
    WINDOWS = "windows"


class PatchOwner(StrEnum):
    """Who may patch a machine, and when: its orchestration mode (see tasks/rules/runs/patch_ownership.py).

    fleetpatch only ever changes machines that it owns.
    """

    FLEETPATCH = "fleetpatch"  # in the windows of its owner's configurations, or when a person asks
    MANAGED = "managed"  # fleetpatch too, but never in a configuration's window
    OS = "os"  # the system's own updater
    MANUAL = "manual"  # people

    @property
    def is_patchable(self) -> bool:
        """Whether fleetpatch may ever change such a machine."""
        return self in {PatchOwner.FLEETPATCH, PatchOwner.MANAGED}


class PrivilegeMethod(StrEnum):
    """How a login becomes root (or administrator). AUTO probes in the order of this list."""

    AUTO = "auto"
    ROOT = "root"
    SUDO = "sudo"
    DOAS = "doas"
    NONE = "none"  # read-only work only; for tests and for assessing without rights


class CheckLevel(StrEnum):
    """What a failing check does to its machine."""

    BLOCK = "block"
    WARN = "warn"


class CheckKind(StrEnum):
    """What a check does: a command on the machine (good when it exits 0), or a question from the controller."""

    COMMAND = "command"
    TCP = "tcp"  # target is "host:port" or "port"
    HTTP = "http"  # target is a URL; good is a status of 200 to 399


class HostKeyPolicy(StrEnum):
    """What is trusted when a machine shows its host key."""

    PINNED = "pinned"  # only keys in known_hosts
    LEARN = "learn"  # the first key seen is pinned; the owner switches this on
    CA = "ca"  # host certificates signed by a @cert-authority line of known_hosts


@dataclass(frozen=True, slots=True)
class Check:
    """A question its owner wants asked of a machine, before patching (pre-check) or after (probe)."""

    name: str
    kind: CheckKind
    target: str
    level: CheckLevel = CheckLevel.BLOCK
    timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a machine's owner allows; None means: as the run says.

    Attributes:
        reboot_reserve_minutes: part of the window that is kept for a reboot.
        reboot_timeout_minutes: how long the machine may take to go down and come back.
        max_reboots: reboots in one run.
    """

    reboot_reserve_minutes: float | None = None
    reboot_timeout_minutes: float | None = None
    max_reboots: int | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of the fleet, as its inventory describes it. No secret is in here, only references.

    Attributes:
        credential: a reference such as ``key:~/.ssh/id_ed25519``, ``agent``, ``env:NAME``, ``file:/path`` or
            ``prefect:block-name`` (see inventory/credentials.py).
        privilege_password: a reference to the password for sudo, when it asks for one.
        jump: names of machines to go through, nearest to the controller first.
        zone: IANA time zone of the machine's own windows.
        location: site or availability zone; waves keep apart what must not fail together.
        pre_checks: asked before patching.
        probes: asked before and after; what was good before must be good after.
    """

    name: str
    address: str
    port: int | None = None
    transport: TransportKind = TransportKind.SSH
    os: OsFamily = OsFamily.LINUX
    user: str | None = None
    credential: str = "agent"
    privilege: PrivilegeMethod = PrivilegeMethod.AUTO
    privilege_password: str | None = None
    jump: tuple[str, ...] = ()
    zone: str = "UTC"
    environment: str = ""
    location: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)  # a plain map: a proxy can't be pickled or copied
    groups: tuple[str, ...] = ()
    owner: PatchOwner = PatchOwner.FLEETPATCH
    legacy_crypto: bool = False
    limits: Limits = Limits()
    pre_checks: tuple[Check, ...] = ()
    probes: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class HostKeySettings:
    """Where host keys are pinned, and what to do with one that isn't."""

    policy: HostKeyPolicy = HostKeyPolicy.PINNED
    known_hosts: Path | None = None  # None: ~/.ssh/known_hosts


@dataclass(frozen=True, slots=True)
class Inventory:
    """All machines that one file (or set of files) describes.

    Attributes:
        machines: in the order of the files.
        host_keys: how they are known.
        source: the file or folder.
        machine_indexes: kept for scopes: for each of their keys, the numbers of the machines that have a word there.
    """

    machines: tuple[Machine, ...]
    host_keys: HostKeySettings = HostKeySettings()
    source: Path | None = None
    machine_indexes: dict[str, dict[str, list[int]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def find_machine(self, name: str) -> Machine:
        """Return the machine of that name.

        Raises:
            KeyError: there is none.
        """
        for machine in self.machines:
            if machine.name == name:
                return machine
        raise KeyError(name)
