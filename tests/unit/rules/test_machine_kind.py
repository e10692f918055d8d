"""What a machine is, by what firmwares really say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.states import MachineKind
from tasks.rules.machine_checks.machine_kind import find_machine_kind

PHYSICAL, VIRTUAL, CONTAINER, UNKNOWN = MachineKind


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (PHYSICAL, {"vendor": "Dell Inc.", "product": "PowerEdge R650", "hypervisor": False}),
        (
            PHYSICAL,
            {"vendor": "HPE", "product": "ProLiant DL380 Gen10"},
        ),  # Windows with VBS: the processor says nothing
        (PHYSICAL, {"vendor": "Amazon EC2", "product": "m7g.metal", "hypervisor": False}),
        (PHYSICAL, {"vendor": "Microsoft Corporation", "product": "Surface Pro"}),
        (PHYSICAL, {"vendor": "Supermicro", "product": "X11", "xen": "host", "hypervisor": True}),
        (PHYSICAL, {"model": "Raspberry Pi 4 Model B Rev 1.4\0"}),
        (VIRTUAL, {"vendor": "QEMU", "product": "Standard PC (Q35 + ICH9, 2009)", "hypervisor": True}),
        (VIRTUAL, {"vendor": "QEMU", "product": "KVM Virtual Machine"}),  # arm64, where no processor flag says it
        (VIRTUAL, {"vendor": "Microsoft Corporation", "product": "Virtual Machine"}),
        (VIRTUAL, {"vendor": "VMware, Inc.", "product": "VMware Virtual Platform"}),
        (VIRTUAL, {"vendor": "Amazon EC2", "product": "m7g.large"}),
        (VIRTUAL, {"vendor": "Google", "product": "Google Compute Engine"}),
        (VIRTUAL, {"vendor": "Hetzner", "product": "vServer"}),
        (VIRTUAL, {"vendor": "Xen", "product": "HVM domU", "xen": "guest"}),
        (VIRTUAL, {"vendor": "hypervisor"}),  # POWER, s390x and arm64 without DMI: the device tree has it
        (VIRTUAL, {"model": "linux,dummy-virt\0"}),
        (CONTAINER, {"vendor": "Dell Inc.", "product": "PowerEdge", "container": "lxc", "hypervisor": False}),
        (UNKNOWN, {}),
        (UNKNOWN, {"vendor": " ", "hypervisor": False}),
    ],
)
def test_machines_as_they_say_it(kind: MachineKind, said: dict[str, Any]) -> None:
    assert find_machine_kind(**{"vendor": "", "product": "", **said}) is kind


@given(
    st.text(max_size=20),
    st.text(max_size=20),
    st.sampled_from(["", "x", "\0"]),
    st.sampled_from([None, True, False]),
)
def test_nothing_known_is_never_physical(vendor: str, product: str, model: str, hypervisor: bool | None) -> None:
    kind = find_machine_kind(vendor=vendor, product=product, model=model, hypervisor=hypervisor)
    if hypervisor:
        assert kind is VIRTUAL
    if not vendor.strip() and not model.strip("\0 "):
        assert kind is not PHYSICAL
