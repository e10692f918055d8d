"""Logins at a real slapd: who may do what, until when, what is refused, and when the server is away."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from ldap3 import MODIFY_ADD, MODIFY_DELETE

from fleetpatch.access.limiter import MAX_TRIES
from fleetpatch.access.providers.ldap import LdapProvider
from fleetpatch.access.providers.login_file import LdapEntry, read_login_file
from fleetpatch.access.providers.person import LoginRefused, ProviderAway
from inventory.errors import InvalidInventory
from tests.support.fake_clock import FakeClock
from tests.support.slapd import BASE, PASSWORD, LdapServer, run_slapd
from tests.support.web_site import Browser, Site, serve_site

# Of several addresses of a server that does not answer, ldap3 leaves sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

OPERATORS = f"cn=operators,ou=groups,{BASE}"
NAMES = ("Jürgen", "o'neil", "a*b", "x(y)", "back\\slash", "with,comma", "#hash", "a=b")
ROLES = (
    {"group": "Operators", "roles": ["run"]},
    {"group": f"cn=approvers,ou=groups,{BASE}", "roles": ["approve"]},
)


@dataclass
class Desk:
    site: Site
    server: LdapServer
    clock: FakeClock

    def log_in(self, name: str, password: str = PASSWORD) -> tuple[Browser, int]:
        browser = self.site.open_browser()
        self.site.context.__dict__.pop("failed_logins", None)  # failures of other tests do not count
        answer = browser.post("/login/ldap", data={"name": name, "password": password, "next": "/machines"})
        return browser, answer.status_code


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LdapServer]:
    with run_slapd(tmp_path_factory.mktemp("slapd")) as server:
        people = [server.add_person(name) for name in ("anna", "bert", "dora")]
        server.load(
            {
                OPERATORS: {"objectClass": "groupOfNames", "member": people},
                f"cn=approvers,ou=groups,{BASE}": {"objectClass": "groupOfNames", "member": people[1:2]},
            }
        )
        server.add_person("carl")
        yield server


@pytest.fixture(scope="module")
def desk(server: LdapServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    clock, file = FakeClock(datetime.now(UTC)), server.write_login_file(ROLES)
    settings: dict[str, Any] = {"requires_login": True, "makes_certificate": True, "idle_minutes": 720}
    with serve_site(tmp_path_factory.mktemp("pages"), clock=clock, logins=file, **settings) as site:
        yield Desk(site, server, clock)


def build_provider(server: LdapServer, **changes: Any) -> LdapProvider:
    file = yaml.safe_load(server.write_login_file(ROLES, **changes).read_text())
    return LdapProvider(LdapEntry.model_validate(file["ldap"]))


def test_somebody_logs_in_and_has_the_roles_of_the_groups(desk: Desk) -> None:
    assert "Example directory" in desk.site.open_browser().get("/login").text
    browser, status = desk.log_in("ANNA")  # LDAP compares names without regard to case: the records have one name
    assert status == 303
    page = browser.get("/assess").text
    assert "<span>anna</span>" in page
    csrf = page.split('name="csrf" value="', 1)[1].split('"', 1)[0]
    assert browser.post("/approvals/x/approve", data={"csrf": csrf}).status_code == 403
    assert browser.post("/assess", data={"csrf": csrf, "scope": "no=such", "once": "a"}).status_code != 403
    assert desk.log_in("carl")[1] == 403  # in no group with a role


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("anna", "wrong"),
        ("anna", ""),
        ("", ""),
        ("nobody", PASSWORD),
        ("*", PASSWORD),
        ("ann*", PASSWORD),
        ("", PASSWORD),
    ],
)
def test_a_wrong_name_or_password_is_refused_without_a_word_about_which(desk: Desk, name: str, password: str) -> None:
    browser = desk.site.open_browser()
    desk.site.context.__dict__.pop("failed_logins", None)
    answer = browser.post("/login/ldap", data={"name": name, "password": password})
    assert answer.status_code in {400, 403}
    if answer.status_code == 403:
        assert "the name or the password is not right" in answer.text
    assert browser.get("/").status_code == 303


def test_a_change_of_groups_and_a_removal_count_at_the_next_check(desk: Desk) -> None:
    browser, _ = desk.log_in("dora")
    with desk.server.connect() as connection:
        change = {"member": [(MODIFY_DELETE, [f"uid=dora,ou=people,{BASE}"])]}
        assert connection.modify(OPERATORS, change)
    assert browser.get("/").status_code == 200
    desk.clock.advance(8 * 60)
    assert browser.get("/").status_code == 303
    with desk.server.connect() as connection:
        assert connection.modify(OPERATORS, {"member": [(MODIFY_ADD, [f"uid=dora,ou=people,{BASE}"])]})
    browser, status = desk.log_in("dora")
    assert status == 303
    with desk.server.connect() as connection:
        assert connection.delete(f"uid=dora,ou=people,{BASE}")
    desk.clock.advance(8 * 60)
    assert browser.get("/").status_code == 303


def test_while_the_server_is_away_sessions_hold_until_their_check_is_overdue(desk: Desk) -> None:
    browser, _ = desk.log_in("anna")
    desk.server.stop()
    try:
        desk.clock.advance(14 * 60)
        assert browser.get("/").status_code == 200
        desk.clock.advance(60)
        assert browser.get("/").status_code == 503
        answer = desk.site.open_browser().post("/login/ldap", data={"name": "anna", "password": PASSWORD})
        assert answer.status_code == 503
        assert "the login provider does not answer" in answer.text
    finally:
        desk.server.start()
    desk.clock.advance(60)
    assert browser.get("/").status_code == 200


def test_tries_for_one_name_end_after_some_from_whatever_address(desk: Desk) -> None:
    spellings = ("bert", " BERT", "bert ", "Bert", "\uff42ert", "bert")
    statuses = [desk.log_in(name, "wrong")[1] for name in spellings]
    assert statuses == [403] * MAX_TRIES + [429] * 2
    assert desk.log_in("bert")[1] == 429
    desk.site.context.__dict__.pop("password_tries", None)
    assert [desk.log_in("bert")[1] for _ in range(MAX_TRIES + 2)] == [303] * (MAX_TRIES + 2)


def test_odd_names_find_exactly_their_person(server: LdapServer) -> None:
    provider = build_provider(server)
    for name in NAMES:
        escaped = "".join(f"\\{ord(character):02x}" if character in ',\\#=*()"' else character for character in name)
        attributes = {"objectClass": "inetOrgPerson", "uid": name, "cn": "x", "sn": "x", "userPassword": PASSWORD}
        server.load({f"uid={escaped},ou=people,{BASE}": attributes})
    for name in NAMES:
        assert provider.log_in(name, PASSWORD).name == name
    for injected in ("*)(uid=*", "anna)(|(uid=*", "*", "anna\0", "a*", "anna)(objectClass=*", "\\2a"):
        with pytest.raises(LoginRefused):
            provider.log_in(injected, PASSWORD)


def test_start_tls_and_groups_of_the_attribute_alone(server: LdapServer) -> None:
    provider = build_provider(server, url=f"ldap://localhost:{server.port}", group_filter="")
    person = provider.log_in("anna", PASSWORD)
    assert person.groups == (OPERATORS,)


@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
def test_a_certificate_of_another_authority_or_name_is_refused(server: LdapServer, scheme: str, tmp_path: Path) -> None:
    port = server.tls_port if scheme == "ldaps" else server.port
    for changes in ({"url": f"{scheme}://127.0.0.1:{port}"}, {"url": f"{scheme}://localhost:{port}", "ca": None}):
        with pytest.raises(ProviderAway, match="does not answer"):
            build_provider(server, **changes).log_in("anna", PASSWORD)


def test_a_wrong_password_of_the_account_that_searches_is_no_failure_of_the_person(server: LdapServer) -> None:
    with pytest.raises(ProviderAway, match="the account that searches is refused"):
        build_provider(server, bind_dn=f"cn=nobody,{BASE}").log_in("anna", PASSWORD)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"url": "http://x"}, "is no LDAP server"),
        ({"user_filter": "(uid=*)"}, "is no filter of users"),
        ({"bind_password": "hunter2"}, "credential reference"),
        ({"bind_pasword": "env:X"}, "bind_pasword"),
    ],
)
def test_faults_of_the_file_are_named(server: LdapServer, changes: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInventory, match=said) as caught:
        read_login_file(server.write_login_file(ROLES, **changes))
    assert "hunter2" not in str(caught.value)
