"""Serves the application."""

from collections.abc import Callable

import uvicorn

from deployments.web.app import build_app
from deployments.web.certificate import describe_certificate_end
from deployments.web.connections import TimedConnection
from deployments.web.context import WebContext, build_context
from deployments.web.listening import check_settings, describe_address, open_listener
from deployments.web.settings import WebSettings
from flows.composition import read_credential
from flows.notify.audit_forwarding import forward_audit_log
from inventory.name_lists import join_first_names
from tasks.records.pages_role import ROLE_REMEDY, find_excess_privileges
from tasks.records.setup import open_records

SHUTDOWN_SECONDS = 5
"""How long a stop waits for requests. Live parts of pages never end by themselves."""


def serve(settings: WebSettings, announce: Callable[[str], None]) -> None:
    """Serve the pages until SIGINT or SIGTERM.

    Args:
        settings: the settings.
        announce: is called with the address and the name of the records, once it listens, and with a warning if the
            certificate ends soon.

    Raises:
        RequestError: a setting is wrong, or would let strangers in.
        CannotRun: the port or the certificate can't be used.
        RecordsError: the records can't be opened.
    """
    check_settings(settings)
    with (
        open_listener(settings) as listener,
        open_records(settings.records_url) as records,
        forward_audit_log(records.database, read_credential),
    ):
        context = build_context(settings, records)
        context.fleet.warm_up()
        context.pending.warm_up()
        server = build_server(context)
        found = records.database.display_name
        announce(f"{describe_address(settings, listener)} (records: {found})")  # who connects from now on is answered
        if warning := describe_certificate_end(context.certificate_ends_at, context.clock.now()):
            announce(warning)
        if excess := find_excess_privileges(records.database):
            announce(f"The pages' database user may also write {join_first_names(excess)}. {ROLE_REMEDY}")
        server.run(sockets=[listener])


def build_server(context: WebContext) -> uvicorn.Server:
    """Return a server of the application. Its records must stay open while it serves."""
    settings = context.settings
    config = uvicorn.Config(
        build_app(context),
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        http=TimedConnection,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    server = uvicorn.Server(config)
    context.live.is_stopping = lambda: server.should_exit
    return server
