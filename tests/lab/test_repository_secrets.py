"""No password of a repository or a proxy leaves the machine, whatever goes wrong, in any family."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
import yaml

from tests.lab.canaries import MARK, Search
from tests.lab.fleet import Flavour, Lab, LabHost
from tests.lab.proxy import REPOSITORY, Proxy, point_to
from tests.lab.spill import PATCH, SPY, Spill, search_host
from tests.support.prefect_tables import copy_tables

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PLANTED = ("check-login", "check-token", "records")
PLAIN = f"{MARK}-plain"
"""The password of the repositories that work: apt can't use one with a slash, though it is encoded."""
FLAVOURS: tuple[Flavour, ...] = ("apt", "dnf", "zypper")
DENIED = ("lab-conffile_2.0_all.deb", "lab-conffile-2.0-1.noarch.rpm")
BROKEN = {
    "apt": ("/etc/apt/sources.list.d/broken.list", "deb [trusted=yes] {url} bookworm main"),
    "dnf": (
        "/etc/yum.repos.d/broken.repo",
        "[broken]\nname=broken\nbaseurl={url}?arch=noarch&token={token}\ngpgcheck=0",
    ),
    "zypper": (
        "/etc/zypp/repos.d/broken.repo",
        "[broken]\nname=broken\nbaseurl={url}\nenabled=1\nautorefresh=1\ngpgcheck=0",
    ),
}
PROXY = {
    "apt": ("/etc/apt/apt.conf.d/99proxy", 'Acquire::http::Proxy "http://me:{proxy}@{address}";'),
    "dnf": ("/etc/dnf/dnf.conf", "proxy=http://{address}\nproxy_username=me\nproxy_password={proxy}"),
    "zypper": ("/etc/environment", "http_proxy=http://me:{proxy}@{address}"),
}


def write(host: LabHost, place: str, text: str) -> None:
    """Add lines to a file of a host; what is secret in them is in no arguments."""
    file = host.root / place.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lines:
        lines.write(text + "\n")


@pytest.fixture(scope="module")
def spill(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spill]:
    """All the runs, once."""
    place = tmp_path_factory.mktemp("repositories")
    hosts: dict[str, LabHost] = {flavour: lab.up(1, flavour)[0] for flavour in FLAVOURS}
    made = Spill(hosts, place / "given", place / "kept", place / "temporary")
    for folder in (made.given / "spy", made.home, made.logs, made.temporary):
        folder.mkdir(parents=True, mode=0o700)
    made.prefect.mkdir(parents=True)
    copy_tables(made.prefect / "prefect.db")
    (made.given / "spy/sitecustomize.py").write_text(SPY)
    data = yaml.safe_load(lab.inventory_text())
    data["machines"] = [each for each in data["machines"] if each["name"] in {host.name for host in hosts.values()}]
    (made.given / "fleet.yaml").write_text(yaml.safe_dump(data))
    (made.given / "fleet.yaml").chmod(0o600)
    try:
        with Proxy(hosts["apt"]) as proxy:
            carry_out(made, proxy)
        yield made
    finally:
        for host in hosts.values():
            host.drop()


def carry_out(spill: Spill, proxy: Proxy) -> None:
    """Let a repository be unreadable, then one of two packages."""
    login, token, secret = (quote(spill.canaries[kind], safe="") for kind in PLANTED)
    for flavour, host in spill.hosts.items():
        point_to(host, REPOSITORY)
        for names in ("etc/apt/sources.list", "etc/yum.repos.d/*.repo", "etc/zypp/repos.d/*.repo"):
            for file in host.root.glob(names):
                file.write_text(file.read_text().replace(f"//{REPOSITORY}", f"//me:{PLAIN}@{REPOSITORY}"))
        place, text = PROXY[flavour]
        write(host, place, text.format(proxy=secret, address=proxy.address))
        place, text = BROKEN[flavour]
        write(host, place, text.format(url=f"http://me:{login}@{REPOSITORY}/nowhere", token=token))
    spill.ask("unreadable", "assess", "*", "--debug")
    spill.ask("doctor", "doctor")
    for flavour, host in spill.hosts.items():
        (host.root / BROKEN[flavour][0].lstrip("/")).unlink()
    proxy.denied = DENIED
    chosen = ("--include", "lab-plain", "--include", "lab-conffile", "--report", str(spill.home / "reports"))
    spill.fleetpatch("denied", "patch", "*", *PATCH, *chosen)
    assert any(path.endswith(DENIED) for path in proxy.asked)
    spill.ask("machines", "machines", "--json")
    for flavour, host in spill.hosts.items():
        spill.ask(f"why {flavour}", "why", host.name)


def search(spill: Spill) -> Search:
    """A search for the beginning and for the end of each canary, so that half a secret is found, too."""
    ends = {f"the end of {kind}": spill.canaries[kind].rpartition("~")[2] for kind in PLANTED}
    return Search({"the beginning of a secret": MARK, **ends}, marks=(MARK, *ends.values()))


def test_what_was_to_fail_failed_and_the_rest_went_well(spill: Spill) -> None:
    said = "\n".join(
        f"{name} {done.returncode}: {(done.stdout + done.stderr)[-1500:]}" for name, done in spill.runs.items()
    )
    assert spill.runs["unreadable"].returncode != 0, said
    assert spill.runs["denied"].returncode == 1, said
    for host in spill.hosts.values():
        assert host.package_versions("lab-plain")["lab-plain"].startswith("2.0"), said
    shown = "".join(path.read_text() for path in (spill.home / "reports").glob("*/report.json"))
    assert "***@" in shown + said  # so logins were in what came in


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_machine_itself_has_the_secrets(spill: Spill, flavour: str) -> None:
    assert search_host(spill.hosts[flavour], search(spill)) != []


def test_nothing_is_left_on_this_machine(spill: Spill) -> None:
    looking = search(spill)
    assert looking.tree(spill.kept) + looking.tree(spill.temporary) == []
    assert looking.files_seen > 20
    assert list(spill.home.rglob("records.db"))
    assert list(spill.prefect.rglob("prefect.db"))


def test_nothing_is_printed(spill: Spill) -> None:
    looking = search(spill)
    assert [hit for name, done in spill.runs.items() for hit in looking.text(name, done.stdout + done.stderr)] == []


def test_the_words_are_still_of_use(spill: Spill) -> None:
    words = spill.runs["unreadable"].stdout + spill.runs["unreadable"].stderr
    assert REPOSITORY in words
    assert "404" in words
