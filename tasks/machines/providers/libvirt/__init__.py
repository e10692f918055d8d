"""Machines of libvirt: virsh and qemu-img on the hypervisor host. Python decides; each command is one step."""
