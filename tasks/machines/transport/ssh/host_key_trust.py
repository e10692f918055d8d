"""Shows the host keys of machines, and learns those that a person trusts. A key that changed is never replaced."""

import shutil
import subprocess
from enum import StrEnum
from typing import Final

from inventory.data_class import dataclass
from inventory.host_key_store import load_host_key_store
from inventory.known_hosts import PinnedKey, render_known_hosts_name
from inventory.machine import HostKeyPolicy, Inventory, Machine
from tasks.domain.errors import FleetpatchError, HostKeyMismatch, HostKeyUnknown, RequestError
from tasks.domain.protocols.clock import Deadline
from tasks.machines.transport.open_port import DEFAULT_PORT
from tasks.machines.transport.own_site import require_own_site
from tasks.machines.transport.ssh.connection import SshSettings, build_verifier, read_host_key
from tasks.machines.transport.ssh.jump_hosts import JumpHostPool

READ_SECONDS: Final = 60.0
"""For the connection to one machine, all attempts and jump hosts together."""
_SSH_SECONDS: Final = 5.0
_SHORT_NAMES: Final = {"ssh-ed25519": "ED25519", "ssh-rsa": "RSA"}


class HostKeyTrust(StrEnum):
    """Whether the key that a machine shows is trusted."""

    TRUSTED = "trusted"
    UNKNOWN = "unknown"
    CHANGED = "changed"  # or revoked: it must not be trusted
    UNREAD = "unread"


@dataclass(frozen=True, slots=True)
class ShownHostKey:
    """What a machine shows."""

    machine: str  # its name in the inventory
    address: str  # its name in known_hosts
    state: HostKeyTrust
    key: PinnedKey | None = None  # None if it could not be read
    message: str = ""  # why it is changed or unread; "" otherwise
    hint: str = ""  # the remedy

    @property
    def fingerprint(self) -> str:
        """Kind and fingerprint, as ssh shows them; "" if the key could not be read."""
        if self.key is None:
            return ""
        kind = _SHORT_NAMES.get(self.key.type, "ECDSA" if self.key.type.startswith("ecdsa-") else self.key.type)
        return f"{kind} {self.key.fingerprint}"


def show_host_key(machine: Machine, inventory: Inventory, settings: SshSettings, pool: JumpHostPool) -> ShownHostKey:
    """Ask a machine for its host key, without a login on it. The jump hosts on the way must be trusted.

    Raises:
        RequestError: the inventory asks for host certificates.
    """
    if settings.host_keys.policy is HostKeyPolicy.CA:
        raise RequestError(
            "this inventory trusts host certificates (policy ca), and no single keys",
            hint="Add the authority to known_hosts: @cert-authority NAMES KEY-TYPE BASE64.",
        )
    address = render_known_hosts_name(machine.address, machine.port or DEFAULT_PORT)
    key: PinnedKey | None = None
    try:
        require_own_site(machine)
        dial = pool.build_dialer(machine, inventory, settings)
        blob = read_host_key(machine, dial, settings, deadline=Deadline.after(settings.clock, READ_SECONDS))
        key = PinnedKey.from_blob(blob)
        build_verifier(machine, settings).verify_host_key(blob)
    except HostKeyUnknown as error:
        if key is not None:
            return ShownHostKey(machine.name, address, HostKeyTrust.UNKNOWN, key)
        return ShownHostKey(machine.name, address, HostKeyTrust.UNREAD, None, str(error), error.hint)
    except FleetpatchError as error:
        is_changed = key is not None and isinstance(error, HostKeyMismatch)
        state = HostKeyTrust.CHANGED if is_changed else HostKeyTrust.UNREAD
        return ShownHostKey(machine.name, address, state, key, error.message, error.hint)
    return ShownHostKey(machine.name, address, HostKeyTrust.TRUSTED, key)


def learn_host_key(machine: Machine, shown: ShownHostKey, settings: SshSettings) -> None:
    """Pin the key that a machine showed. In the user's own file its name is hashed, if ssh would do that.

    Raises:
        HostKeyConflict: another key was pinned meanwhile, or this one is revoked.
        InventoryError: known_hosts can't be written.
    """
    if shown.key is None:
        raise ValueError(f"the host key of {machine.name} was not read")
    store = load_host_key_store(settings.host_keys)
    is_hashed = settings.host_keys.known_hosts is None and _hashes_names(machine.address)
    port = machine.port or DEFAULT_PORT
    store.pin_first_key(machine.address, port, shown.key.type, shown.key.base64, hashed=is_hashed)


def _hashes_names(host: str) -> bool:
    """Return whether this user's ssh hashes names in known_hosts (HashKnownHosts)."""
    ssh = shutil.which("ssh")
    if ssh is None:
        return False
    try:
        answer = subprocess.run([ssh, "-G", "--", host], capture_output=True, timeout=_SSH_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"hashknownhosts yes" in answer.stdout.splitlines()
