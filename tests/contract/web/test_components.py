"""The page and the API of components: who may enrol, what is shown, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.domain.components import InstalledComponent
from tasks.records.components import SqlComponents
from tests.contract.cli.test_components import FILE
from tests.support import builders as make
from tests.support.fake_clock import FakeClock
from tests.support.web_site import Site, serve_site

INVENTORY = """
machines:
  - {name: m1, address: 192.0.2.1, environment: prod}
  - {name: m2, address: 192.0.2.2, environment: stage}
  - {name: w1, address: 192.0.2.3, os: windows, transport: winrm, environment: stage}
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "fleet.yaml").write_text(INVENTORY)
    (tmp_path / "components.yaml").write_text(FILE)
    with serve_site(tmp_path, clock=FakeClock(make.at(3600))) as served:
        told = (InstalledComponent("agent", "1.0.0"), InstalledComponent("app", None, "<script>alert(1)</script>"))
        packages = make.make_package_state(components=told)
        served.records.save(make.make_assessment(machine="m1", packages=packages))
        yield served


def token(site: Site, *roles: str) -> dict[str, str]:
    from tests.support.web_login import make_token  # noqa: PLC0415

    return {"Authorization": f"Bearer {make_token(site, *roles)}"}


def test_the_page_shows_versions_and_escapes_what_machines_say(site: Site) -> None:
    text = site.get("/components").text
    assert "Pending" in text
    assert "1.1.0" in text
    assert "<script>alert" not in text
    assert "w1" not in text  # components of Linux
    assert "No component is enrolled" in text


def test_a_faulty_file_is_told_on_the_page(site: Site, tmp_path: Path) -> None:
    (tmp_path / "components.yaml").write_text("components: [{name: app}]")
    answer = site.get("/components")
    assert answer.status_code == 200
    assert "components.yaml:1" in answer.text


def test_strangers_enrol_nothing(site: Site) -> None:
    answer = site.client.post("/components/enroll", data={"component": "agent", "scope": "*"})
    assert answer.status_code in {303, 401, 403}
    assert SqlComponents(site.records.database).read_enrolments() == ()
