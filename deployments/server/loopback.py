"""Is an address this machine's own?"""

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host. A name other than localhost may lead anywhere, tomorrow."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
