"""The settings of the pages: what they listen on, what they show, and who may act.

Each setting is described once, here. `fleetpatch web` makes its options and their environment variables from it.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints
from urllib.parse import urlsplit

from inventory.data_class import dataclass

ENCRYPTION = "Encryption"
PEOPLE = "Who may look and act"


@dataclass(frozen=True, slots=True)
class WebOption:
    """How the command line and the environment give a setting."""

    help: str  # the text of the option
    name: str = ""  # the option without "--"; "": the setting's name
    # The environment variable; "": FLEETPATCH_WEB_ and the option; None: the option has none of its own.
    variable: str | None = ""
    metavar: str | None = None  # the name of its value
    panel: str | None = None  # of the help
    least: int | None = None  # the smallest number
    most: int | None = None  # the largest number


@dataclass(frozen=True, slots=True)
class WebSettings:
    """The settings of one web process. Paths and URLs that are None or "" stand for the default of every command."""

    host: Annotated[str, WebOption("Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, WebOption("0: any free one.", least=0, most=65535)] = 4280
    configurations: Annotated[Path | None, WebOption("", "config", None)] = None
    inventory: Annotated[Path | None, WebOption("", variable=None)] = None
    records_url: Annotated[str | None, WebOption("", "records", None)] = None
    fleet: Annotated[str, WebOption("Fleet of the pages. Default: $FLEETPATCH_FLEET.", metavar="NAME")] = ""
    zone: Annotated[str, WebOption("Time zone of times that belong to no window.")] = "UTC"
    public_url: Annotated[
        str, WebOption("Address for browsers, behind a proxy.", variable="FLEETPATCH_WEB_URL", metavar="URL")
    ] = ""
    prefect_url: Annotated[str, WebOption("Prefect's UI, for links.", variable="PREFECT_UI_URL", metavar="URL")] = ""
    tls_certificate: Annotated[
        Path | None, WebOption("Certificate and its chain (PEM).", "tls-cert", metavar="FILE", panel=ENCRYPTION)
    ] = None
    tls_key: Annotated[Path | None, WebOption("Its key (PEM, no password).", metavar="FILE", panel=ENCRYPTION)] = None
    makes_certificate: Annotated[
        bool, WebOption("Make a certificate also where only this machine can connect.", "tls", panel=ENCRYPTION)
    ] = False
    allows_plain_http: Annotated[
        bool,
        WebOption(
            "Let other machines connect without TLS: everybody on the way can read tokens.", "no-tls", panel=ENCRYPTION
        ),
    ] = False
    requires_login: Annotated[
        bool, WebOption("Also people on this machine must log in before they may look.", "require-login", panel=PEOPLE)
    ] = False
    idle_minutes: Annotated[int, WebOption("How long a login lasts without use.", panel=PEOPLE, least=1, most=720)] = 30
    logins: Annotated[
        Path | None, WebOption("How people log in with OpenID Connect or LDAP (YAML).", metavar="FILE", panel=PEOPLE)
    ] = None
    trusted_proxies: Annotated[
        tuple[str, ...],
        WebOption(
            "Address or network of a proxy whose headers are believed. May be repeated.",
            "trusted-proxy",
            metavar="CIDR",
            panel=PEOPLE,
        ),
    ] = ()
    user_header: Annotated[
        str, WebOption("Header in which the proxy names the user: X-Remote-User.", metavar="NAME", panel=PEOPLE)
    ] = ""
    roles_header: Annotated[
        str,
        WebOption("Header in which the proxy names the user's roles: view,approve,run.", metavar="NAME", panel=PEOPLE),
    ] = ""
    proxy_roles: Annotated[
        tuple[str, ...],
        WebOption(
            "Role of users whose roles the proxy does not name. May be repeated. Default: view.",
            "proxy-role",
            metavar="ROLE",
            panel=PEOPLE,
        ),
    ] = ("view",)
    allowed_hosts: Annotated[
        tuple[str, ...],
        WebOption(
            "Another name under which browsers find these pages. May be repeated.",
            "allow-host",
            metavar="NAME",
            panel=PEOPLE,
        ),
    ] = ()

    @property
    def idle_length(self) -> timedelta:
        """How long a login lasts without use."""
        return timedelta(minutes=self.idle_minutes)

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


def list_web_options() -> Iterator[tuple[str, Any, WebOption, Any]]:
    """Yield the settings in the order of the help: name, type, option with its names, default."""
    hints = get_type_hints(WebSettings, include_extras=True)
    for field in fields(WebSettings):
        value_type, option = get_args(hints[field.name])
        name = option.name or field.name.replace("_", "-")
        own_variable = f"FLEETPATCH_WEB_{name.replace('-', '_').upper()}"
        variable = own_variable if option.variable == "" else option.variable
        yield field.name, value_type, replace(option, name=name, variable=variable), field.default
