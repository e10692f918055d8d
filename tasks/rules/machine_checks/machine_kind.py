"""What a machine is: physical, virtual or a container, by what its firmware and its kernel say. Pure.

The names of vendors are those of systemd-detect-virt(1), which asks the same places. A vendor that is in no table makes
a machine physical only if nothing speaks of a hypervisor: without any name, nothing is known.
"""

from typing import Final

from tasks.domain.states import MachineKind

CONTAINER_ENGINES: Final = frozenset({"docker", "containerd", "cri-o", "podman", "kubelet"})
"""What makes a machine a container host. Containers of a person's own podman, without its service, are not seen."""

_VIRTUAL_VENDORS: Final = (
    "qemu",
    "vmware",
    "vmw",
    "innotek gmbh",
    "virtualbox",
    "xen",
    "bochs",
    "parallels",
    "bhyve",
    "red hat",
    "openstack",
    "nutanix",
    "google compute engine",
    "alibaba cloud",
    "digitalocean",
    "linode",
    "akamai",
    "upcloud",
    "apple virtualization",
    "hypervisor",
)
"""Beginnings of the names that hypervisors give as the vendor or the product, in lower case."""
_AMBIGUOUS: Final = {
    "microsoft corporation": "virtual machine",  # else a machine of Microsoft's own
    "amazon ec2": "",  # each product but the metal ones
    "google": "google compute engine",
    "hetzner": "vserver",
}
"""Vendors of both kinds of machines: the beginning of the product's name that says virtual."""
_METAL: Final = ".metal"
_DUMMY_MODEL: Final = "linux,dummy-virt"


def find_machine_kind(
    *, vendor: str, product: str, model: str = "", xen: str = "", hypervisor: bool | None = None, container: str = ""
) -> MachineKind:
    """Return what a machine is.

    Args:
        vendor: of the system, by its firmware.
        product: of the system, by its firmware.
        model: the board, where there is no such firmware.
        xen: "host" on the machine that runs Xen, "guest" on another one of Xen; "".
        hypervisor: whether the processor says that a hypervisor runs it; None: it says nothing of use.
        container: the kind of container; "": it is none.
    """
    if container:
        return MachineKind.CONTAINER
    if xen == "host":
        return MachineKind.PHYSICAL
    if xen == "guest" or hypervisor is True or _is_virtual(vendor.strip().lower(), product.strip().lower()):
        return MachineKind.VIRTUAL
    if model.strip("\0 ").lower() == _DUMMY_MODEL:
        return MachineKind.VIRTUAL
    return MachineKind.PHYSICAL if (vendor.strip() or model.strip("\0 ")) else MachineKind.UNKNOWN


def _is_virtual(vendor: str, product: str) -> bool:
    if _METAL in product:
        return False
    for name, beginning in _AMBIGUOUS.items():
        if vendor.startswith(name):
            return product.startswith(beginning)
    return vendor.startswith(_VIRTUAL_VENDORS) or product.startswith(_VIRTUAL_VENDORS)
