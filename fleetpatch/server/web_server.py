"""Builds the application, and serves it."""

import ssl
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from typing import Final
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from fleetpatch.access.login_admin import create_login_link
from fleetpatch.api.api_app import API_PATH, build_api
from fleetpatch.pages import ROUTERS
from fleetpatch.server.listening import check_settings, describe_address, open_listener
from fleetpatch.server.middleware import install_middleware
from fleetpatch.settings import WebSettings
from fleetpatch.web.certificate import (
    describe_certificate_end,
    ensure_own_certificate,
    list_certificate_names,
    read_fingerprint,
)
from fleetpatch.web.context import WebContext, build_context
from fleetpatch.web.rendering import install_error_pages
from flows.composition import read_own_secret
from flows.notify.audit_forwarding import forward_audit_log
from flows.prefect_api.timed_connection import TimedConnection
from inventory.name_lists import join_first_names
from tasks.domain.protocols.clock import SystemClock
from tasks.records.pages_role import ROLE_REMEDY, find_excess_privileges
from tasks.records.setup import open_records
from tasks.reports.html.environment import STATIC_PACKAGE


def build_app(context: WebContext) -> FastAPI:
    """Return the application. Its records must stay open while it serves."""
    app = FastAPI(title="fleetpatch", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.context = context
    app.mount(
        "/static",
        StaticFiles(directory=str(files("fleetpatch.pages") / "static"), packages=[(STATIC_PACKAGE, "static")]),
        name="static",
    )
    app.mount(API_PATH, build_api(context))
    for router in ROUTERS:
        app.router.routes.extend(router.routes)  # they are built; include_router builds each of them again
    install_error_pages(app)
    install_middleware(app, context)
    return app


SHUTDOWN_SECONDS = 5
"""How long a stop waits for requests. Live parts of pages never end by themselves."""
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption (AEAD) only. TLS 1.3 has no others."""


def serve(settings: WebSettings, announce: Callable[[str], None]) -> None:
    """Serve the pages until SIGINT or SIGTERM.

    ``announce``: is called with the address and the name of the records, once it listens, and with a warning if the
    certificate ends soon. Without TLS, a person at a terminal also gets a link to log in.

    Raises:
        RequestError: a setting is wrong, or would let strangers in.
        CannotRun: the port or the certificate can't be used.
        RecordsError: the records can't be opened.
    """
    check_settings(settings)
    settings = add_certificate(settings)
    with (
        open_listener(settings) as listener,
        open_records(settings.records_url) as records,
        forward_audit_log(records.database, read_own_secret),
    ):
        context = build_context(settings, records)
        context.fleet.warm_up()
        context.pending.warm_up()
        server = build_server(context)
        display_name = records.database.display_name
        announce(
            f"{describe_address(settings, listener)} (records: {display_name})"
        )  # who connects from now on is answered
        certificate = settings.tls_certificate
        if certificate is not None:
            announce(f"the certificate's SHA-256 fingerprint is {read_fingerprint(certificate)}")
        if not settings.is_secure and sys.stderr.isatty():  # a journal keeps lines, and others may read it
            link, _ = create_login_link(records, describe_address(settings, listener))
            announce(f"log in with this link, once, within ten minutes: {link}")
        if warning := describe_certificate_end(context.certificate_ends_at, context.clock.now()):
            announce(warning)
        if excess := find_excess_privileges(records.database):
            announce(f"The pages' database user may also write {join_first_names(excess)}. {ROLE_REMEDY}")
        with context.prefect_watcher.watch():
            server.run(sockets=[listener])


def add_certificate(settings: WebSettings) -> WebSettings:
    """Return settings with the certificate that the pages make for themselves, if they need one.

    Raises:
        KeyFileError: its file can't be read or made.
        CannotRun: its file has no certificate.
    """
    if not settings.needs_certificate:
        return settings
    names = list_certificate_names(settings.host, urlsplit(settings.public_url).hostname or "", settings.allowed_hosts)
    path = ensure_own_certificate(names, SystemClock().now())
    return replace(settings, tls_certificate=path, tls_key=path)


def build_tls_context(settings: WebSettings) -> ssl.SSLContext:
    """Return how the pages speak TLS: 1.2 or newer, and AEAD ciphers only."""
    assert settings.tls_certificate is not None  # noqa: S101 - for the type checker
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    return context


def build_server(context: WebContext) -> uvicorn.Server:
    """Return a server of the application. Its records must stay open while it serves."""
    settings = context.settings
    config = uvicorn.Config(
        build_app(context),
        host=settings.host,
        port=settings.port,
        ssl_context_factory=(
            None if settings.tls_certificate is None else lambda _config, _default: build_tls_context(settings)
        ),
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
