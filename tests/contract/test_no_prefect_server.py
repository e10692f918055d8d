"""What answers at PREFECT_API_URL and is no Prefect server: a proxy's page, another program, a URL that can't be."""

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.server.client import ServerUnavailable, open_server_client
from fleetpatch.cli.runtime.prefect_server import _require_prefect_server, print_elapsed_time
from tasks.domain.errors import CannotRun

ANSWERS = [
    (200, "text/html", b"<html><body>Welcome!</body></html>"),
    (200, "text/html", b""),
    (200, "application/json", b"{}"),
    (200, "application/json", b"[]"),
    (200, "application/json", b"null"),
    (200, "application/json", b"[" * 100_000),
    (200, "application/octet-stream", b"\xff\xfe\x00" * 1000),
    (302, "text/html", b"elsewhere"),
    (404, "text/html", b"<html>not found</html>"),
    (503, "text/html", b"<html>later</html>"),
]


@dataclass
class Stranger:
    """Answers everything alike."""

    answer: tuple[int, str, bytes] = ANSWERS[0]
    url: str = ""
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def stranger() -> Iterator[Stranger]:
    made = Stranger()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = made.answer
            made.asked.append(self.path)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the base class asks for it by this name

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.url = f"http://127.0.0.1:{server.server_address[1]}/api"
        yield made
        server.shutdown()


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: f"{answer[0]} {answer[1]} {answer[2][:8]!r}")
def test_a_stranger_is_told_from_a_server_before_anything_is_asked_of_it(
    stranger: Stranger, answer: tuple[int, str, bytes]
) -> None:
    stranger.answer, stranger.asked = answer, []
    with pytest.raises(CannotRun) as flows:
        _require_prefect_server(stranger.url)
    with (
        temporary_settings({PREFECT_API_URL: stranger.url}),
        pytest.raises(ServerUnavailable) as deploying,
        open_server_client(),
    ):
        pytest.fail("it was taken for a server")
    for error in (flows.value, deploying.value):
        assert stranger.url in error.message
        assert error.hint
        assert len(error.message) < 300
    assert set(stranger.asked) == {"/api/health"}


WORD = "hunter2"
URLS = [
    "http://127.0.0.1:1/api", "http://127.0.0.1:99999/api", "http://a b/api", "http://127.0.0.1:x/api",
    "ftp://127.0.0.1/api", "http:///api", "/api", "nonsense", f"http://u:{WORD}@127.0.0.1:1/api", "http://h\u00e9..b/api",
]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_a_url_that_can_not_be_is_told_and_shows_no_password(url: str) -> None:
    with pytest.raises(CannotRun) as caught:
        _require_prefect_server(url)
    assert WORD not in caught.value.message
    assert "PREFECT_API_URL" in caught.value.hint
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(ServerUnavailable) as away, open_server_client():
        pytest.fail("there is no such server")
    assert WORD not in f"{away.value.message} {away.value.hint}"
    assert away.value.hint


def test_a_wait_for_prefect_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    twice = threading.Event()

    def hear(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            twice.set()

    monkeypatch.setattr("fleetpatch.cli.runtime.prefect_server.print_to_stderr", hear)
    with print_elapsed_time("waiting", interval_seconds=0.01):
        assert twice.wait(30)
    so_far = len(said)
    assert all(line.startswith("… still waiting (") for line in said)
    assert not [thread for thread in threading.enumerate() if thread.name == "still"]
    assert len(said) == so_far
