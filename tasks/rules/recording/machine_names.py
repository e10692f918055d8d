"""Lists what is known of a machine's names: from its inventory, and from what it says of itself. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from inventory.machine import Machine
from tasks.rules.recording.patterns import is_address
from tasks.rules.recording.replacement import KINDS, KnownName

_ID_FIELDS: Final = ("machine_id", "installation", "boot_id")
"""Fields of the record "kernel" by which others may know the machine again."""


def list_known_names(machine: Machine, records: Iterable[Mapping[str, object]]) -> tuple[KnownName, ...]:
    """Return the names to replace in a recording; the machine's name in the inventory is the first.

    Args:
        machine: as the inventory has it.
        records: what the machine has answered: of all records, "name" and "kernel" count.
    """
    names = (*_list_inventory_names(machine), *_list_own_names(records))
    return tuple(dict.fromkeys(KnownName(name.kind, name.value.strip()) for name in names if name.value.strip()))


def _list_inventory_names(machine: Machine) -> Iterator[KnownName]:
    for host in (machine.name, machine.address, machine.winrm.kerberos_hostname or ""):
        yield from _split_host(host)
    yield from _split_user(machine.user or "")
    if machine.wake is not None:
        yield KnownName("hardware", machine.wake.mac)


def _list_own_names(records: Iterable[Mapping[str, object]]) -> Iterator[KnownName]:
    for record in records:
        if record.get("kind") == "name":
            of, value = str(record.get("of")), str(record.get("value"))
            if of == "host":
                yield from _split_host(value)
            elif of == "user":
                yield from _split_user(value)
            elif of in KINDS:
                yield KnownName(of, value)
        elif record.get("kind") == "kernel":
            yield from (KnownName("machineid", str(record[name])) for name in _ID_FIELDS if record.get(name))


def _split_host(host: str) -> Iterator[KnownName]:
    """Return a host name and its domain. Each is also replaced by itself."""
    if is_address(host):
        yield KnownName("address", host)
        return
    label, _, domain = host.strip(".").partition(".")
    yield KnownName("host", label)
    if domain:
        yield KnownName("domain", domain)


def _split_user(user: str) -> Iterator[KnownName]:
    r"""Return the parts of ``DOMAIN\user``, ``user@domain`` or ``user``."""
    domain, backslash, name = user.rpartition("\\")
    if not backslash:
        name, _, domain = user.partition("@")
    yield KnownName("user", name)
    if domain:
        yield KnownName("domain", domain)
