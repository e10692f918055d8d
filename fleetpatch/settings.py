"""The settings of the pages: what they listen on, what they show, and who may act."""

from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_PORT = 4280


@dataclass(frozen=True, slots=True)
class WebSettings:
    """The settings of one web process.

    Attributes:
        host: the address to listen on.
        port: the port; 0 for any free one.
        records_url: the records; None: the default.
        inventory: the inventory's file or folder; None: as every command finds it.
        configurations: file or folder; None: as every command finds it.
        fleet: the fleet whose deployments in Prefect are used; "" for the only one.
        zone: the IANA time zone of times that belong to no window.
        public_url: the address that browsers use, without a slash at its end; "" if it is the listening address.
        prefect_url: the address of Prefect's UI for links; "" for none.
        tls_certificate: a PEM file; None: no TLS.
        tls_key: a PEM file.
        trusted_proxies: networks (CIDR) whose user header is believed.
        user_header: the header with the user's name from a trusted proxy; "" for none.
        roles_header: the header with the user's roles from a trusted proxy; "" for none.
        proxy_roles: the roles of users that a proxy names, if it sends none.
        allowed_hosts: names that may stand in the Host header, besides those of the listening address and public_url.
        requires_login: whether people on this machine must log in too before they may look.
        makes_certificate: whether a certificate is made also where only this machine can connect.
        allows_plain_http: whether others may connect without TLS and without a proxy.
        idle_length: how long a login lasts without use.
        logins: the file that says which providers log people in; None: none.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    records_url: str | None = None
    inventory: Path | None = None
    configurations: Path | None = None
    fleet: str = ""
    zone: str = "UTC"
    public_url: str = ""
    prefect_url: str = ""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()
    user_header: str = ""
    roles_header: str = ""
    proxy_roles: tuple[str, ...] = ("view",)
    allowed_hosts: tuple[str, ...] = field(default=())
    requires_login: bool = False
    makes_certificate: bool = False
    allows_plain_http: bool = False
    idle_length: timedelta = timedelta(minutes=30)
    logins: Path | None = None

    @property
    def is_secure(self) -> bool:
        """Whether browsers come by TLS, to this process or to a proxy before it."""
        return self.tls_certificate is not None or self.public_url.startswith("https://")

    @property
    def needs_certificate(self) -> bool:
        """Whether the pages make a certificate: none is given, and others may connect, or somebody wants one."""
        is_plain = self.allows_plain_http or bool(self.trusted_proxies)
        return self.tls_certificate is None and (self.makes_certificate or not (self.is_local or is_plain))

    @property
    def is_encrypted_for_others(self) -> bool:
        """Whether browsers elsewhere come by TLS."""
        return self.is_secure and (self.has_public_address or not self.is_local)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return self.host == "localhost" or is_loopback(self.host)

    @property
    def has_public_address(self) -> bool:
        """Whether browsers use an address that is not one of this machine alone."""
        public = urlsplit(self.public_url).hostname or "localhost"
        return public != "localhost" and not is_loopback(public)


def is_loopback(host: str) -> bool:
    """Return whether an address is of this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
