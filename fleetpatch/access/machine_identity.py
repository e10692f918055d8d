"""Says which machine asks for its events: by its token, or by the address that it comes from.

An address stands for a machine only if it can mean nothing else: exactly one machine of the inventory has it, and this
process reaches that machine directly. Behind a jump host or at another site, the same private address may belong to
somebody else here. A jump host or a hypervisor may give its own address to what is behind it. Such machines need a
token, or get their events as a file.
"""

import base64
import binascii
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from fleetpatch.access.network import Address, parse_address
from fleetpatch.access.token_secrets import create_secret, digest_secret
from flows.ports.caller import current_caller, find_starter_name
from inventory.machine import Inventory, Machine, TransportKind
from tasks.domain.errors import FleetpatchError
from tasks.domain.protocols.clock import Clock, SystemClock
from tasks.records.event_tokens import EventToken, SqlEventTokens
from tasks.records.storage.database import Database

logger = logging.getLogger(__name__)

TOKEN_PREFIX: Final = "fpe_"  # noqa: S105 - no secret: tools that look for leaked tokens find it
REFRESH_SECONDS: Final = 60.0
_LOOPBACK: Final = ("127.0.0.1", "::1")
AMBIGUOUS: Final = ""
"""The name in an index for an address that several machines have."""


class UnknownMachine(Exception):
    """A request of which it is not known which machine makes it. Its text says what to do, and nothing of others."""


def resolve_address(address: str) -> tuple[Address, ...]:
    """Return the IP addresses of a machine's address. A name that is not known has none."""
    parsed = parse_address(address)
    if parsed is not None:
        return (parsed,)
    try:
        found = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    addresses = (parse_address(str(place[0])) for *_, place in found)
    return tuple(dict.fromkeys(each for each in addresses if each is not None))


def build_address_index(
    machines: Sequence[Machine], site: str, resolve: Callable[[str], tuple[Address, ...]] = resolve_address
) -> Mapping[Address, str]:
    """Return the machine of each address; AMBIGUOUS for an address that several have, or that others may ask from.

    ``resolve``: returns the IP addresses of a host name.
    """
    gateways = {name for machine in machines for name in (*machine.jump, machine.hypervisor)}
    index: dict[Address, str] = {}
    for machine in machines:
        if machine.jump or machine.site != site:
            continue
        is_shared = machine.name in gateways or machine.guests is not None
        hosts = _LOOPBACK if machine.transport is TransportKind.LOCAL else (machine.address,)
        for address in {each for host in hosts for each in resolve(host)}:
            index[address] = AMBIGUOUS if is_shared or address in index else machine.name
    return index


def read_token(authorization: str) -> str:
    """Return the token of an Authorization header; "": it has none. Basic gives it as the password."""
    scheme, _, value = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        decoded = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return decoded.partition(":")[2]


class MachineDirectory:
    """The machines of the inventory, by name and by address. All threads may use it.

    ``find_token_machine``: returns the machine of a token's digest, or "".
    ``resolve``: returns the IP addresses of a host name.
    """

    def __init__(
        self,
        load: Callable[[], Inventory],
        site: str,
        find_token_machine: Callable[[str], str],
        resolve: Callable[[str], tuple[Address, ...]] = resolve_address,
    ) -> None:
        self._load, self._site, self._resolve = load, site, resolve
        self._find_token_machine = find_token_machine
        self.inventory = Inventory(())
        self._machines: Mapping[str, Machine] = {}
        self._index: Mapping[Address, str] = {}
        self._resolved: dict[str, tuple[Address, ...]] = {}

    def refresh(self) -> None:
        """Read the inventory and the names of its machines anew.

        Raises:
            InventoryError: it can't be read. What was known holds.
        """
        inventory = self._load()
        index = build_address_index(inventory.machines, self._site, self._resolve_or_remember)
        self.inventory, self._index = inventory, index
        self._machines = {machine.name: machine for machine in inventory.machines}

    def _resolve_or_remember(self, host: str) -> tuple[Address, ...]:
        """Return the addresses of a host. A name that is not known now keeps its last ones: it may still mean them."""
        addresses = self._resolve(host) or self._resolved.get(host, ())
        if not addresses:
            logger.warning("%s has no address: whether another machine has the same one is not known", host)
        self._resolved[host] = addresses
        return addresses

    @contextmanager
    def keep_fresh(self) -> Iterator[None]:
        """Refresh it from time to time, in a thread, until the end of the block."""
        is_over = threading.Event()

        def work() -> None:
            while not is_over.wait(REFRESH_SECONDS):
                try:
                    self.refresh()
                except FleetpatchError as error:
                    logger.warning("the inventory can't be read, and the known machines hold: %s", error.message)

        thread = threading.Thread(target=work, name="machine-directory", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def identify(self, address: str, authorization: str) -> Machine:
        """Return the machine that makes a request. A token that is given must be right: its address does not help.

        Raises:
            UnknownMachine: it is none, or not a single one.
            RecordsError: the records can't be read.
        """
        if authorization:
            token = read_token(authorization)
            name = self._find_token_machine(digest_secret(token)) if token.startswith(TOKEN_PREFIX) else ""
            if not name:
                raise UnknownMachine(
                    "This token is not one of a machine: fleetpatch events token add MACHINE makes one."
                )
        else:
            source = parse_address(address)
            name = self._index.get(source, AMBIGUOUS) if source is not None else AMBIGUOUS
            if not name:
                raise UnknownMachine(
                    "The address of this request is not that of exactly one machine of the inventory that is reached "
                    "directly. Send the token of the machine: fleetpatch events token add MACHINE makes one."
                )
        machine = self._machines.get(name)
        if machine is None:
            raise UnknownMachine("The machine of this token is no longer in the inventory.")
        return machine


def create_event_token(database: Database, machine: str, clock: Clock | None = None) -> str:
    """Store a new token of a machine, in place of an earlier one, and return its text, which is stored nowhere.

    Raises:
        RecordsError: it can't be stored.
    """
    text = TOKEN_PREFIX + create_secret()
    who, now = find_starter_name(current_caller()), (clock or SystemClock()).now()
    SqlEventTokens(database).save(EventToken(machine, digest_secret(text), who, now))
    return text
