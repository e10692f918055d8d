"""Checks whether an address belongs to this machine only."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host. Names except localhost return False: they may change later."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
