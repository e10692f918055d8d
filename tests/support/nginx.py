"""A real nginx (Debian's package) that ends TLS before the pages, and a sign-on for it to ask."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support.certificate import write_certificate

NGINX: Final = Path("/usr/sbin/nginx")
WAIT_SECONDS = 60.0

needs_nginx = pytest.mark.skipif(
    not NGINX.exists(), reason="nginx isn't here (deployments/bootstrap/packages.sh nginx)"
)

_CONFIGURATION = """
daemon off;
master_process off;
pid {place}/pid;
error_log {place}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        {locations}
    }}
}}
"""


class _SignOn(BaseHTTPRequestHandler):
    """Answers as a single sign-on: who it is, by a cookie "NAME.ROLES" that a real one would sign."""

    def do_GET(self) -> None:
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get("sso")
        self.send_response(200 if cookie else 401)
        if cookie:
            name, _, roles = cookie.value.partition(".")
            self.send_header("X-User", name)
            self.send_header("X-Roles", roles.replace(".", ","))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def serve_sign_on() -> Iterator[int]:
    """Yield the port of a sign-on."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _SignOn) as server:
        thread = threading.Thread(target=server.serve_forever, name="sign-on", daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(WAIT_SECONDS)


@contextmanager
def run_nginx(place: Path, port: int, locations: str) -> Iterator[Path]:
    """Run an nginx on a loopback port, and yield the certificate that it shows.

    Args:
        place: an empty folder.
        port: a free port.
        locations: the blocks of its server.
    """
    certificate, key = write_certificate(place)
    file = place / "nginx.conf"
    file.write_text(
        _CONFIGURATION.format(place=place, port=port, certificate=certificate, key=key, locations=locations)
    )
    child = subprocess.Popen([NGINX, "-p", place, "-e", place / "error.log", "-c", file], stdin=subprocess.DEVNULL)
    try:
        _wait_until_it_answers(f"https://127.0.0.1:{port}/", child, place / "error.log")
        yield certificate
    finally:
        child.terminate()
        child.wait(WAIT_SECONDS)


def _wait_until_it_answers(url: str, child: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        assert child.poll() is None, log.read_text()
        try:
            httpx.get(url, verify=False, trust_env=False, timeout=WAIT_SECONDS)
        except httpx.ConnectError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nginx does not answer in {WAIT_SECONDS:.0f} s")
