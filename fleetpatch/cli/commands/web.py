"""web: serve the pages, and manage who may use them."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from fleetpatch.cli.app import InventoryOption, RecordsOption, app, parse_path
from fleetpatch.cli.commands.automatic import ConfigurationsOption
from fleetpatch.cli.runtime.completion import complete_fleet

web_app = typer.Typer(invoke_without_command=True, no_args_is_help=False, help="Serve the pages over the records.")
app.add_typer(web_app, name="web", rich_help_panel="Set up")

_TLS = "Encryption"
_PEOPLE = "Who may look and act"


@web_app.callback()
def serve_pages(
    context: typer.Context,
    host: Annotated[
        str, typer.Option("--host", envvar="FLEETPATCH_WEB_HOST", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", envvar="FLEETPATCH_WEB_PORT", min=0, max=65535, help="0: any free one.")
    ] = 4280,
    config: ConfigurationsOption = None,
    inventory: InventoryOption = None,
    records: RecordsOption = None,
    fleet: Annotated[
        str,
        typer.Option(
            "--fleet",
            metavar="NAME",
            envvar="FLEETPATCH_WEB_FLEET",
            help="Fleet of the pages. Default: $FLEETPATCH_FLEET.",
            autocompletion=complete_fleet,
        ),
    ] = "",
    zone: Annotated[
        str, typer.Option("--zone", envvar="FLEETPATCH_WEB_ZONE", help="Time zone of times that belong to no window.")
    ] = "UTC",
    public_url: Annotated[
        str,
        typer.Option(
            "--public-url", metavar="URL", envvar="FLEETPATCH_WEB_URL", help="Address for browsers, behind a proxy."
        ),
    ] = "",
    prefect_url: Annotated[
        str, typer.Option("--prefect-url", metavar="URL", envvar="PREFECT_UI_URL", help="Prefect's UI, for links.")
    ] = "",
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            "--tls-cert",
            metavar="FILE",
            envvar="FLEETPATCH_WEB_TLS_CERT",
            parser=parse_path,
            help="Certificate and its chain (PEM).",
            rich_help_panel=_TLS,
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(
            "--tls-key",
            metavar="FILE",
            envvar="FLEETPATCH_WEB_TLS_KEY",
            parser=parse_path,
            help="Its key (PEM, no password).",
            rich_help_panel=_TLS,
        ),
    ] = None,
    tls: Annotated[
        bool,
        typer.Option(
            "--tls",
            envvar="FLEETPATCH_WEB_TLS",
            help="Make a certificate also where only this machine can connect.",
            rich_help_panel=_TLS,
        ),
    ] = False,
    no_tls: Annotated[
        bool,
        typer.Option(
            "--no-tls",
            envvar="FLEETPATCH_WEB_NO_TLS",
            help="Let other machines connect without TLS: everybody on the way can read tokens.",
            rich_help_panel=_TLS,
        ),
    ] = False,
    require_login: Annotated[
        bool,
        typer.Option(
            "--require-login",
            envvar="FLEETPATCH_WEB_REQUIRE_LOGIN",
            help="Also people on this machine must log in before they may look.",
            rich_help_panel=_PEOPLE,
        ),
    ] = False,
    idle_minutes: Annotated[
        int,
        typer.Option(
            "--idle-minutes",
            envvar="FLEETPATCH_WEB_IDLE_MINUTES",
            min=1,
            max=720,
            help="How long a login lasts without use.",
            rich_help_panel=_PEOPLE,
        ),
    ] = 30,
    logins: Annotated[
        Path | None,
        typer.Option(
            "--logins",
            metavar="FILE",
            envvar="FLEETPATCH_WEB_LOGINS",
            parser=parse_path,
            help="How people log in with OpenID Connect or LDAP (YAML).",
            rich_help_panel=_PEOPLE,
        ),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy",
            metavar="CIDR",
            envvar="FLEETPATCH_WEB_TRUSTED_PROXY",
            help="Address or network of a proxy whose headers are believed. May be repeated.",
            rich_help_panel=_PEOPLE,
        ),
    ] = None,
    user_header: Annotated[
        str,
        typer.Option(
            "--user-header",
            metavar="NAME",
            envvar="FLEETPATCH_WEB_USER_HEADER",
            help="Header in which the proxy names the user: X-Remote-User.",
            rich_help_panel=_PEOPLE,
        ),
    ] = "",
    roles_header: Annotated[
        str,
        typer.Option(
            "--roles-header",
            metavar="NAME",
            envvar="FLEETPATCH_WEB_ROLES_HEADER",
            help="Header in which the proxy names the user's roles: view,approve,run.",
            rich_help_panel=_PEOPLE,
        ),
    ] = "",
    proxy_role: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy-role",
            metavar="ROLE",
            envvar="FLEETPATCH_WEB_PROXY_ROLE",
            help="Role of users whose roles the proxy does not name. May be repeated. Default: view.",
            rich_help_panel=_PEOPLE,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            metavar="NAME",
            envvar="FLEETPATCH_WEB_ALLOW_HOST",
            help="Another name under which browsers find these pages. May be repeated.",
            rich_help_panel=_PEOPLE,
        ),
    ] = None,
) -> None:
    """Serve the pages over the records. Ctrl-C or SIGTERM ends it."""
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    from fleetpatch.cli.runtime.output import print_to_stderr
    from fleetpatch.server.web_server import serve
    from fleetpatch.settings import WebSettings
    from flows.ports.web_links import parse_web_url
    from tasks.records.fleets import find_fleet, use_fleet

    settings = WebSettings(
        host=host,
        port=port,
        records_url=records,
        inventory=inventory,
        configurations=config,
        fleet=fleet,
        zone=zone,
        public_url=parse_web_url(public_url, "--public-url"),
        prefect_url=parse_web_url(prefect_url, "--prefect-url"),
        tls_certificate=tls_cert,
        tls_key=tls_key,
        makes_certificate=tls,
        allows_plain_http=no_tls,
        idle_length=timedelta(minutes=idle_minutes),
        logins=logins,
        requires_login=require_login,
        trusted_proxies=tuple(trusted_proxy or ()),
        user_header=user_header,
        roles_header=roles_header,
        proxy_roles=tuple(proxy_role or ("view",)),
        allowed_hosts=tuple(allow_host or ()),
    )
    with use_fleet(fleet or find_fleet()):
        serve(settings, lambda text: print_to_stderr(f"fleetpatch web: {text}"))


def _refuse_options(context: typer.Context) -> None:
    """Refuse options before a command: they would do nothing, and the command would use other records."""
    given = [name for name in context.params if _is_given(context, name)]
    if given:
        option = f"--{given[0].replace('_', '-')}"
        raise typer.BadParameter(f"put it behind the command: fleetpatch web {context.invoked_subcommand} … {option} …")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
