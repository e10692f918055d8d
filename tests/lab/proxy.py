"""A proxy on the lab's bridge. Through it, hosts reach the lab's repository by a name that nothing else resolves."""

import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from tests.lab.fleet import LabHost

REPOSITORY: Final = "repository.invalid"
"""The name. A host that asks without the proxy can't resolve it (RFC 6761)."""
_MIRROR_PORT: Final = 8099
_SOURCES: Final = "/etc/apt/sources.list /etc/yum.repos.d/*.repo /etc/zypp/repos.d/*.repo"


class Proxy:
    """An HTTP proxy that is entered for a time.

    Attributes:
        asked: the paths that were asked for.
        denied: ends of paths that it answers with 403.
    """

    def __init__(self, host: LabHost) -> None:
        self.bridge = host.address.rpartition(".")[0] + ".1"
        self.asked: list[str] = []
        self.denied: Sequence[str] = ()
        self._server = ThreadingHTTPServer((self.bridge, 0), _build_handler(self))

    @property
    def address(self) -> str:
        """Its address and port."""
        return f"{self.bridge}:{self._server.server_port}"

    def fetch(self, path: str) -> bytes:
        """Return a file of the lab's mirror."""
        self.asked.append(path)
        if path.endswith(tuple(self.denied)):
            raise urllib.error.HTTPError(path, 403, "Forbidden", {}, None)  # type: ignore[arg-type]  # no headers
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.bridge}:{_MIRROR_PORT}{path}", timeout=30) as answer:
            content: bytes = answer.read()
        return content

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="proxy", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


def point_to(host: LabHost, place: str) -> None:
    """Let a host's repositories be at another place (``name``, or ``user:password@name:port``)."""
    host.sh(f"sed -i -E 's#http://[^/]*/#http://{place}/#' $(ls {_SOURCES} 2>/dev/null)", root=True)


def _build_handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                content = proxy.fetch(urlsplit(self.path).path)
            except urllib.error.HTTPError as error:
                self.send_error(error.code)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    return Handler
