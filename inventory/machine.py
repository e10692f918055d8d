"""The inventory model: machines, how they are reached, and what their owners allow."""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from pathlib import Path

from inventory.data_class import dataclass
from inventory.event_delivery import EventDelivery
from inventory.guests import GuestSettings
from inventory.resource_limits import ResourceLimits


class FailedCheckEffect(StrEnum):
    """The effect of a failed check on its machine."""

    BLOCK = "block"
    WARN = "warn"


class CheckKind(StrEnum):
    """What a check does: run a command on the machine (good: exit code 0), or connect from the controller."""

    COMMAND = "command"
    TCP = "tcp"  # the target is "host:port" or "port"
    HTTP = "http"  # the target is a URL; good: status 200 to 399


@dataclass(frozen=True, slots=True)
class Check:
    """A test of the owner on a machine. A pre-check runs before patching; a probe runs before and after."""

    name: str
    kind: CheckKind
    target: str
    level: FailedCheckEffect = FailedCheckEffect.BLOCK
    timeout_seconds: float = 30.0


class SetActionKind(StrEnum):
    """What an action of a set runs. The words are those of a request's hooks."""

    MACHINE_COMMAND = "machine-command"  # on the member
    CONTROLLER_COMMAND = "controller-command"
    HTTP = "http"
    PYTHON = "python"
    DEPLOYMENT = "deployment"


@dataclass(frozen=True, slots=True)
class SetAction:
    """A command, URL, function or deployment of the owner that takes a member out of service or brings it back."""

    kind: SetActionKind
    target: str  # a command line, a URL, ``package.module:function`` or ``flow/deployment``; ``kind`` decides which.
    timeout_seconds: float = 300.0
    repeatable: bool = True  # whether a resumed run may run it again if it is unknown whether it ran


@dataclass(frozen=True, slots=True)
class RoleSource:
    """How the role of a member is found: from a tag, or by a command on the member. Its first word is the role.

    A command is asked again just before the turn of each member, because roles move.
    """

    tag: str = ""
    command: str = ""
    timeout_seconds: float = 30.0

    def find_in_tags(self, tags: Mapping[str, str]) -> str:
        """Return the role that the tags of a member give it; "": none, or a command tells it."""
        parts = tags.get(self.tag, "").split() if self.tag else []
        return parts[0] if parts else ""


@dataclass(frozen=True, slots=True)
class MachineSet:
    """Machines of which only some may be out of service at a time.

    Attributes:
        name: unique in the inventory.
        scope: selects the members.
        members: names of the members, in the order of the inventory.
        max_unavailable: how many members may be out of service together, those that are down anyway included; None:
            ``max_unavailable_percent``.
        max_unavailable_percent: the same as a share, rounded down, at least one; None and no count: 20, and one in a
            set of fewer than ten members, as Azure does for availability sets.
        update_domain: a tag; members with different values are never out of service together. "": no domains.
        role: how the role of a member is found; None: all members are equal.
        order: roles in the order of their turns, such as replica before primary. Members of a role that is not listed
            come first. A role's turn begins when no member of an earlier role is left in the run.
        quorum: how many members must be healthy at any time; None: no such limit besides ``max_unavailable``.
        drain: takes a member out of service, before its first change; None: nothing.
        undrain: brings it back, after its last step; None: nothing.
        healthy: how a member is known to be healthy; empty: it answers at its port.
        healthy_seconds: how long a member may take to be healthy after its turn. Azure waits 300 s.
    """

    name: str
    scope: str
    members: tuple[str, ...]
    max_unavailable: int | None = None
    max_unavailable_percent: float | None = None
    update_domain: str = ""
    role: RoleSource | None = None
    order: tuple[str, ...] = ()
    quorum: int | None = None
    drain: SetAction | None = None
    undrain: SetAction | None = None
    healthy: tuple[Check, ...] = ()
    healthy_seconds: float = 300.0

    @property
    def allowed_unavailable(self) -> int:
        """How many members may be out of service together; at least one."""
        if self.max_unavailable is not None:
            return self.max_unavailable
        percent = 20.0 if self.max_unavailable_percent is None else self.max_unavailable_percent
        if self.max_unavailable_percent is None and len(self.members) < 10:
            return 1
        return max(1, int(len(self.members) * percent / 100 + 1e-9))


DEFAULT_CREDENTIAL = "default"
"""The credential of a machine whose inventory names none."""
DEFAULT_SITE = "default"
"""The site of machines that name none, and of processes that name none."""


class TransportKind(StrEnum):
    """How a machine is reached."""

    SSH = "ssh"
    WINRM = "winrm"
    LOCAL = "local"


class OsFamily(StrEnum):
    """The system family of a machine. The exact distribution is a fact that assess reads from the machine."""

    LINUX = "linux"
    WINDOWS = "windows"


class PatchOwner(StrEnum):
    """Who may patch a machine, and when: its orchestration mode. fleetpatch changes only machines that it owns."""

    # tasks/rules/timing/admission.py decides by it.
    FLEETPATCH = "fleetpatch"  # in the windows of configurations, or when a person starts a run
    MANAGED = "managed"  # by fleetpatch, but never in the window of a configuration
    OS = "os"  # by the updater of the system
    MANUAL = "manual"  # by people

    @property
    def is_patchable(self) -> bool:
        """Whether fleetpatch may change the machine."""
        return self in {PatchOwner.FLEETPATCH, PatchOwner.MANAGED}


class PrivilegeMethod(StrEnum):
    """How a login gets administrator rights: the words of the setting ``privilege``. AUTO tries them in this order."""

    AUTO = "auto"
    ROOT = "root"
    SUDO = "sudo"
    DOAS = "doas"
    BROKER = "broker"  # by sudo, only what the controller has signed: never found out by AUTO
    NONE = "none"  # read-only work: for tests, and to assess without these rights


class WinrmScheme(StrEnum):
    """How WinRM messages travel."""

    HTTPS = "https"
    HTTP = "http"  # the messages themselves are encrypted: by NTLM, Kerberos or CredSSP


class WinrmAuthentication(StrEnum):
    """How a login proves itself to WinRM."""

    NTLM = "ntlm"
    KERBEROS = "kerberos"  # with the tickets of the user who runs fleetpatch
    CERTIFICATE = "certificate"  # a client certificate; only over HTTPS
    CREDSSP = "credssp"
    BASIC = "basic"  # only over HTTPS

    @property
    def needs_password(self) -> bool:
        """Whether it proves a password."""
        return self in {WinrmAuthentication.NTLM, WinrmAuthentication.CREDSSP, WinrmAuthentication.BASIC}

    @property
    def encrypts_messages(self) -> bool:
        """Whether it can encrypt messages over HTTP."""
        return self not in {WinrmAuthentication.CERTIFICATE, WinrmAuthentication.BASIC}


class IdentityPolicy(StrEnum):
    """Whether a machine must be proven to be the one that its provider means, before anything is ordered of that."""

    PROVEN = "proven"
    UNVERIFIED = "unverified"  # its owner stands for it if nothing proves it. One that is known to differ is refused.


class HostKeyPolicy(StrEnum):
    """Which host keys are trusted."""

    PINNED = "pinned"  # only keys in known_hosts
    LEARN = "learn"  # fleetpatch pins the first key of a machine; the owner must select this policy
    CA = "ca"  # host certificates that a @cert-authority line of known_hosts signs


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that the owner of a machine sets. None: the value of the run applies."""

    reboot_reserve_minutes: float | None = None  # the reboot reserve at the end of the window
    reboot_timeout_minutes: float | None = None  # how long the machine may take to shut down, and then to start again
    max_reboots: int | None = None  # maximum number of reboots in one run


@dataclass(frozen=True, slots=True)
class WinrmSettings:
    """How a machine is reached over WinRM."""

    scheme: WinrmScheme = WinrmScheme.HTTPS
    authentication: WinrmAuthentication = WinrmAuthentication.NTLM
    ca_file: Path | None = None  # the certificates that may sign the machine's certificate; None: those of this system
    # SHA-256 or SHA-1 of the machine's certificate, in hexadecimal and lower case; several while it is replaced. A
    # certificate that is pinned so needs no signature of a CA, unless ca_file is set.
    certificate_thumbprint: tuple[str, ...] = ()
    client_certificate: Path | None = None  # the certificate of the login (PEM); its key is the machine's credential
    path: str = "wsman"
    kerberos_hostname: str | None = None  # the host name in the machine's service principal; None: its address


@dataclass(frozen=True, slots=True)
class WakeSettings:
    """How a machine that is powered off is started for its window, and whether it is powered off again."""

    mac: str = ""  # its hardware address for Wake-on-LAN; "": none
    broadcast: str = "255.255.255.255"  # the IPv4 address to which the magic packet goes
    port: int = 9  # the UDP port of the magic packet
    command: str = ""  # a command on the controller that powers it on, e.g. ipmitool or a hypervisor's; "": none.
    # A command on the controller that powers it off again; "": by a shutdown on the machine itself.
    off_command: str = ""
    off_again: bool = True  # whether a machine that fleetpatch powered on is powered off after its turn
    minutes: float = 10.0  # how long it may take until a login works


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine of the inventory. It contains no secrets, only references.

    Attributes:
        credential: a reference such as ``default``, ``agent``, ``key:~/.ssh/id_ed25519``, ``env:NAME``,
            ``file:/path`` or ``prefect:block-name`` (see inventory/credential_references.py).
        privilege_password: a reference to the password that the method of ``privilege`` asks for, if it asks.
        jump: names of the jump hosts, nearest to the controller first.
        zone: IANA time zone of the machine's own windows.
        winrm: used if the transport is winrm.
        site: the place from which it is reached. Only workers of that site connect to it.
        location: building or region; waves separate machines that must not fail together.
        availability_zone: part of the location that fails by itself: automatic patching never patches two at once.
        pre_checks: checks that run before patching.
        probes: checks that run before and after patching. A check that was good before must be good after.
        wake: how it is started if it is off; None: it is not.
        mirror: the package mirror that it downloads from, if many of its machines at once are too much for it.
        hypervisor: the host that it is a virtual machine of, likewise.
        scheduled_events: how its programs learn of scheduled events.
        guests: what becomes of its own guests before it reboots; None: nothing.
        provider: who holds its disks: a name of providers.yaml, and what that calls the machine, as NAME/ID; "":
            nobody that fleetpatch may ask. Without the ID, it is the machine's name.
        identity: whether it must be proven to be the machine of its provider.
        host_keys_of: the address and port whose pinned host keys it shows, as the copy of a machine does; None: its
            own. No inventory file says it.
    """

    name: str
    address: str
    port: int | None = None
    transport: TransportKind = TransportKind.SSH
    os: OsFamily = OsFamily.LINUX
    user: str | None = None
    credential: str = DEFAULT_CREDENTIAL
    privilege: PrivilegeMethod = PrivilegeMethod.AUTO
    privilege_password: str | None = None
    jump: tuple[str, ...] = ()
    zone: str = "UTC"
    environment: str = ""
    site: str = DEFAULT_SITE
    location: str = ""
    availability_zone: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)  # a dict: MappingProxyType can't be pickled or copied
    groups: tuple[str, ...] = ()
    owner: PatchOwner = PatchOwner.FLEETPATCH
    legacy_crypto: bool = False
    winrm: WinrmSettings = WinrmSettings()
    limits: Limits = Limits()
    pre_checks: tuple[Check, ...] = ()
    probes: tuple[Check, ...] = ()
    wake: WakeSettings | None = None
    mirror: str = ""
    hypervisor: str = ""
    scheduled_events: EventDelivery = EventDelivery.ENDPOINT
    guests: GuestSettings | None = None
    provider: str = ""
    identity: IdentityPolicy = IdentityPolicy.PROVEN
    host_keys_of: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class HostKeySettings:
    """The known_hosts file, and the policy for host keys that are not pinned."""

    policy: HostKeyPolicy = HostKeyPolicy.PINNED
    known_hosts: Path | None = None  # None: ~/.ssh/known_hosts


@dataclass(frozen=True, slots=True)
class Inventory:
    """All machines of one file or one set of files."""

    machines: tuple[Machine, ...]  # in the order of the files
    host_keys: HostKeySettings = HostKeySettings()
    source: Path | None = None  # the file or folder
    sets: tuple[MachineSet, ...] = ()  # machine sets, in the order of the file
    limits: ResourceLimits = ResourceLimits()  # how many machines that share something a run works on at once
    # Cache for scopes: for each key and value, the indexes of the machines with that value.
    machine_indexes: dict[str, dict[str, list[int]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites of its machines, sorted."""
        return tuple(sorted({machine.site for machine in self.machines}))

    def find_machine(self, name: str) -> Machine:
        """Return the machine with this name. Raise KeyError if there is no machine with this name."""
        for machine in self.machines:
            if machine.name == name:
                return machine
        raise KeyError(name)
