"""The inventory model: machines, how they are reached, and what their owners allow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from inventory.checks import Check
from inventory.machine_sets import MachineSet

DEFAULT_CREDENTIAL = "default"
"""The credential of a machine whose inventory names none."""


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
    """Who may patch a machine, and when: its orchestration mode (see tasks/rules/timing/admission.py).

    fleetpatch changes only machines that it owns.
    """

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


class HostKeyPolicy(StrEnum):
    """Which host keys are trusted."""

    PINNED = "pinned"  # only keys in known_hosts
    LEARN = "learn"  # fleetpatch pins the first key of a machine; the owner must select this policy
    CA = "ca"  # host certificates that a @cert-authority line of known_hosts signs


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that the owner of a machine sets. None: the value of the run applies.

    Attributes:
        reboot_reserve_minutes: the reboot reserve at the end of the window.
        reboot_timeout_minutes: how long the machine may take to shut down, and then to start again.
        max_reboots: maximum number of reboots in one run.
    """

    reboot_reserve_minutes: float | None = None
    reboot_timeout_minutes: float | None = None
    max_reboots: int | None = None


@dataclass(frozen=True, slots=True)
class WinrmSettings:
    """How a machine is reached over WinRM.

    Attributes:
        ca_file: the certificates that may sign the machine's certificate; None: those of this system.
        certificate_thumbprint: SHA-256 or SHA-1 of the machine's certificate, in hexadecimal and lower case; several
            while it is replaced. A certificate that is pinned so needs no signature of a CA, unless ca_file is set.
        client_certificate: the certificate of the login (PEM); its key is the machine's credential.
        path: the path of the URL.
        kerberos_hostname: the host name in the machine's service principal; None: its address.
    """

    scheme: WinrmScheme = WinrmScheme.HTTPS
    authentication: WinrmAuthentication = WinrmAuthentication.NTLM
    ca_file: Path | None = None
    certificate_thumbprint: tuple[str, ...] = ()
    client_certificate: Path | None = None
    path: str = "wsman"
    kerberos_hostname: str | None = None


@dataclass(frozen=True, slots=True)
class WakeSettings:
    """How a machine that is powered off is started for its window, and whether it is powered off again.

    Attributes:
        mac: its hardware address for Wake-on-LAN; "": none.
        broadcast: the IPv4 address to which the magic packet goes.
        port: the UDP port of the magic packet.
        command: a command on the controller that powers it on, e.g. ipmitool or a hypervisor's; "": none.
        off_command: a command on the controller that powers it off again; "": by a shutdown on the machine itself.
        off_again: whether a machine that fleetpatch powered on is powered off after its turn.
        minutes: how long it may take until a login works.
    """

    mac: str = ""
    broadcast: str = "255.255.255.255"
    port: int = 9
    command: str = ""
    off_command: str = ""
    off_again: bool = True
    minutes: float = 10.0


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
        location: site or region; waves separate machines that must not fail together.
        availability_zone: part of the location that fails by itself. Automatic patching never patches two of them at
            the same time.
        pre_checks: checks that run before patching.
        probes: checks that run before and after patching. A check that was good before must be good after.
        wake: how it is started if it is off; None: it is not.
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


@dataclass(frozen=True, slots=True)
class HostKeySettings:
    """The known_hosts file, and the policy for host keys that are not pinned."""

    policy: HostKeyPolicy = HostKeyPolicy.PINNED
    known_hosts: Path | None = None  # None: ~/.ssh/known_hosts


@dataclass(frozen=True, slots=True)
class Inventory:
    """All machines of one file or one set of files.

    Attributes:
        machines: in the order of the files.
        host_keys: the settings for host keys.
        source: the file or folder.
        sets: machine sets, in the order of the file.
        machine_indexes: cache for scopes: for each key and value, the indexes of the machines with that value.
    """

    machines: tuple[Machine, ...]
    host_keys: HostKeySettings = HostKeySettings()
    source: Path | None = None
    sets: tuple[MachineSet, ...] = ()
    machine_indexes: dict[str, dict[str, list[int]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def find_machine(self, name: str) -> Machine:
        """Return the machine with this name.

        Raises:
            KeyError: there is no machine with this name.
        """
        for machine in self.machines:
            if machine.name == name:
                return machine
        raise KeyError(name)
