"""Every page has a frame, and every answer has the headers that keep browsers safe."""

from pathlib import Path

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
