"""The settings of the pages: what they listen on, what they show, and who may act."""

from dataclasses import dataclass, field
from pathlib import Path

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
