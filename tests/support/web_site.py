"""The pages for tests: the real server on a loopback port, over records in a folder."""

import shutil
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from fleetpatch.server.listening import open_listener
from fleetpatch.server.web_server import add_certificate, build_server
from fleetpatch.settings import WebSettings
from fleetpatch.web.context import WebContext, build_context
from inventory.files.own_keys import find_key_path
from tasks.domain.protocols.clock import Clock
from tasks.records.setup import open_records
from tasks.records.sql_records import SqlRecords
from tests.support.empty_records import make_empty_records

START_SECONDS = 120.0
PATIENCE = 300.0
"""Seconds for an answer. On cores that others use, a page has taken more than twenty."""
NEWS_SECONDS = 120.0
"""A request waits that long for news, so that a test sees what it has just changed. Real ones wait for a moment."""


class Browser(httpx.Client):
    """A browser.

    Attributes:
        form_token: the secret of its login, which pages without TLS do not show; "" before a login.
    """

    form_token: str = ""


@dataclass
class Site:
    """Pages that are served.

    Attributes:
        url: the address, without a slash at its end.
        client: a browser without cookies, for that address.
        records: the same records, for the test.
        context: the shared objects of the server.
        browsers: is left at the end, with all browsers.
    """

    url: str
    client: httpx.Client
    records: SqlRecords
    context: WebContext
    browsers: ExitStack = field(default_factory=ExitStack)

    def open_browser(self, **headers: str) -> Browser:
        """Return a browser with cookies of its own, for this address, that sends forms as browsers do."""
        said = {"Accept": "text/html", "Origin": self.url, **headers}
        browser = Browser(base_url=self.url, trust_env=False, timeout=PATIENCE, verify=trust_own_certificate(self.url))
        browser.headers.update([(name.encode(), value.encode()) for name, value in said.items()])
        return self.browsers.enter_context(browser)

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Return an answer. Redirects are not followed."""
        return self.client.get(path, **options)


@contextmanager
def serve_site(
    place: Path, *, clock: Clock | None = None, database: str | None = None, **settings: Any
) -> Iterator[Site]:
    """Serve pages over records in a folder, until the end of the block.

    Args:
        place: an empty folder. ``fleet.yaml`` and ``configurations`` in it are used, if they are there.
        clock: the present time of the pages.
        database: the URL of the records; None: a file in the folder.
        settings: fields of WebSettings.
    """
    file = place / "records.db"
    if not file.exists() and database is None:
        shutil.copy(make_empty_records(), file)
    url = database or f"sqlite:///{file}"
    inventory, configurations = place / "fleet.yaml", place / "configurations"
    found = WebSettings(
        port=0,
        records_url=url,
        inventory=inventory if inventory.exists() else None,
        configurations=configurations if configurations.exists() else None,
    )
    found = add_certificate(replace(found, **settings))
    with open_records(url) as records, open_listener(found) as listener:
        context = build_context(found, records, clock)
        context.fleet.wait_seconds = NEWS_SECONDS
        server = build_server(context)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="web", daemon=True)
        thread.start()
        try:
            _wait_until_started(server)
            scheme = "https" if found.tls_certificate is not None else "http"
            address = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
            trusted = trust_own_certificate(address)
            with httpx.Client(base_url=address, trust_env=False, timeout=PATIENCE, verify=trusted) as client:
                site = Site(address, client, records, context)
                with site.browsers:
                    yield site
        finally:
            server.should_exit = True
            thread.join(START_SECONDS)


def trust_own_certificate(url: str) -> ssl.SSLContext | bool:
    """Return what a browser trusts at an address: with TLS, the certificate that the pages have made."""
    return ssl.create_default_context(cafile=find_key_path("web-tls")) if url.startswith("https:") else False


def _wait_until_started(server: Any) -> None:
    until = time.monotonic() + START_SECONDS
    while not server.started:
        if time.monotonic() > until:
            raise TimeoutError("the pages are not served")
        time.sleep(0.01)
