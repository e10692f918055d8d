"""What a machine is known by: from its inventory, and from what it says of itself."""

from dataclasses import replace

from inventory.machine import Machine, WakeSettings, WinrmSettings
from tasks.rules.recording import KnownName, list_known_names

MACHINE = Machine("payroll-7", "10.1.2.3")


def test_the_inventory_knows_names_addresses_and_logins() -> None:
    machine = replace(
        MACHINE,
        winrm=WinrmSettings(kerberos_hostname="srv01.corp.example."),
        user="CORPNT\\svc-patch",
        wake=WakeSettings(mac="00:15:5d:0a:0b:0c"),
    )
    assert list_known_names(machine, []) == (
        KnownName("host", "payroll-7"),
        KnownName("address", "10.1.2.3"),
        KnownName("host", "srv01"),
        KnownName("domain", "corp.example"),
        KnownName("user", "svc-patch"),
        KnownName("domain", "CORPNT"),
        KnownName("hardware", "00:15:5d:0a:0b:0c"),
    )
    assert {KnownName("user", "ann"), KnownName("domain", "CORP.EXAMPLE")} <= set(
        list_known_names(replace(MACHINE, user="ann@CORP.EXAMPLE"), [])
    )


def test_the_machine_knows_more() -> None:
    records = [
        {"kind": "name", "of": "host", "value": "SRV01.corp.example"},
        {"kind": "name", "of": "user", "value": "CORPNT\\ann"},
        {"kind": "name", "of": "serial", "value": " 42-1d "},
        {"kind": "name", "of": "anything", "value": "x"},
        {"kind": "kernel", "machine_id": "aaaa-1", "boot_id": "bbbb-2", "installation": ""},
        {"kind": "os", "id": "windows", "name": "Windows"},
    ]
    known = list_known_names(MACHINE, records)
    assert known[: len(list_known_names(MACHINE, []))] == list_known_names(MACHINE, [])
    assert known[len(list_known_names(MACHINE, [])) :] == (
        KnownName("host", "SRV01"),
        KnownName("domain", "corp.example"),
        KnownName("user", "ann"),
        KnownName("domain", "CORPNT"),
        KnownName("serial", "42-1d"),
        KnownName("machineid", "aaaa-1"),
        KnownName("machineid", "bbbb-2"),
    )
