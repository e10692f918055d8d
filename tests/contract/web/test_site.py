"""Every page has a frame, and every answer has the headers that keep browsers safe."""

from pathlib import Path

import pytest

from tests.support.web_site import serve_site


def test_the_overview_is_served_with_its_headers(tmp_path: Path) -> None:
    with serve_site(tmp_path) as site:
        answer = site.get("/")
        assert answer.status_code == 200
        assert "<h1>Overview" in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


def test_a_page_that_does_not_exist_says_so(tmp_path: Path) -> None:
    with serve_site(tmp_path) as site:
        answer = site.get("/nothing")
        assert answer.status_code == 404
        assert "Not Found" in answer.text


@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/static/app.js", "/api/v1/machines", "/nothing"])
def test_head_has_the_status_and_the_headers_of_get(tmp_path: Path, path: str) -> None:
    with serve_site(tmp_path) as site:
        whole, head = site.get(path), site.client.head(path)
        assert head.status_code == whole.status_code
        assert head.headers["content-type"] == whole.headers["content-type"]
        assert not head.content
        assert site.client.head("/live/runs").status_code == 405  # has no end


def test_browsers_ask_for_static_files_again_after_an_upgrade(tmp_path: Path) -> None:
    with serve_site(tmp_path) as site:
        answer = site.get("/static/app.js")
        assert answer.headers["cache-control"] == "no-cache"
        again = site.get("/static/app.js", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
