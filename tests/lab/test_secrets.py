"""No secret is left anywhere: not here, not on the machines, not in the arguments of a process; whatever goes wrong."""

import gzip
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas
import psycopg
import pytest

from tests.lab.canaries import ProcessWatch, Search, new_canary, open_to_others
from tests.lab.fleet import Lab, LabHost
from tests.lab.spill import Spill, database_log, database_text, search_host, spilled

pytestmark = [pytest.mark.slow, pytest.mark.postgres]

TOKEN = "check-token"  # a web server writes into its own log what it is asked for
JOBS_PLANTED = "/var/lib/fleetpatch/jobs/planted"
RUNNING = ("all", "login", "wrong-sudo", "wrong-login")


@pytest.fixture(scope="module")
def spill(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spill]:
    """All the runs, once."""
    with spilled(lab, tmp_path_factory.mktemp("spill")) as made:
        yield made


def test_what_was_to_go_well_did_and_what_was_to_fail_failed(spill: Spill) -> None:
    said = "\n".join(f"{name}: {done.stderr[-500:]}" for name, done in spill.runs.items())
    assert {name: done.returncode for name, done in spill.runs.items()} == {
        "block": 0, "plain": 3, "flow": 1, "unreachable records": 5, "garbled records": 5, "doctor": 1, "agent": 1,
        "garbled check": 2,
    }, said  # fmt: skip
    assert "the SSH agent does not answer" in spill.runs["agent"].stdout
    told = spill.runs["flow"].stdout
    for line in (
        r"^login +1 +Succeeded",
        r"^all Failed: .*lab-failing",
        r"^wrong-sudo Failed: sudo refused the password of pwsudo",
        r"^wrong-login Failed: the machine refused the password of pwsudo",
        r"^off Failed: ",
    ):
        assert re.search(line, told, re.MULTILINE), line
    found = "".join(path.read_text() for path in (spill.home / "reports").glob("*/report.json"))
    assert "***@" in found  # the checks with a login in their URL were asked


def test_nothing_is_left_on_this_machine(spill: Spill) -> None:
    search = spill.search()
    hits = search.tree(spill.kept) + search.tree(spill.temporary)
    assert hits == []
    assert search.files_seen > 50
    assert search.bytes_seen > 10_000_000


def test_nothing_is_printed(spill: Spill) -> None:
    search = spill.search()
    hits = [hit for name, done in spill.runs.items() for hit in search.text(name, done.stdout + done.stderr)]
    assert hits == []
    assert all(done.stdout + done.stderr for name, done in spill.runs.items() if name != "block")


def test_every_logger_was_heard(spill: Spill) -> None:
    text = "".join(path.read_text() for path in spill.logs.iterdir())
    for logger in ("paramiko.transport DEBUG", "prefect.", "sqlalchemy.engine", "httpx", "uvicorn"):
        assert logger in text


def test_nothing_is_in_a_database_server(spill: Spill) -> None:
    search = spill.search()
    assert search.text("rows", database_text(spill.database)) + search.text("log", database_log()) == []
    assert search.bytes_seen > 10_000


@pytest.mark.parametrize("name", RUNNING)
def test_nothing_is_left_on_a_host(spill: Spill, name: str) -> None:
    search = spill.search(TOKEN)
    assert search_host(spill.hosts[name], search) == []
    assert search.bytes_seen > 1_000_000


def test_nothing_is_in_arguments(spill: Spill) -> None:
    search = spill.search()
    assert [hit for line in spill.watch.seen for hit in search.text(repr(line[:80]), line)] == []
    assert spill.watch.rounds > 200
    assert spill.watch.count(b"sudo", b"-k", b"-S") > 0  # a password was typed into it
    assert spill.watch.count(b"/bin/sh", b"-s") > 0
    assert spill.watch.count(b"/var/lib/fleetpatch/jobs/") > 0


def test_what_is_kept_here_is_its_owners_alone(spill: Spill) -> None:
    for kind in ("records.db", "report.json", "report.html", "machines.csv", "machines.parquet", "known_hosts"):
        assert list(spill.home.rglob(kind)), kind
    assert (spill.prefect / "prefect.db").exists()
    assert open_to_others(spill.home) == []  # one run was under umask 0, another under 077
    assert spill.prefect.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["all", "login"])
def test_jobs_are_roots_alone(spill: Spill, name: str) -> None:
    rows = spill.hosts[name].sh("find /var/lib/fleetpatch -printf '%y %m %U %p\\n'", root=True).splitlines()
    assert len(rows) > 10
    for row in rows:
        kind, mode, owner, path = row.split(maxsplit=3)
        assert owner == "0", row
        assert (kind, mode) in {("d", "700"), ("f", "600"), ("f", "700")}, row
        assert "/fleetpatch" in path


@pytest.mark.parametrize("name", ["all", "login"])
def test_a_hosts_umask_neither_opens_nor_closes_what_apt_makes(spill: Spill, name: str) -> None:
    host = spill.hosts[name]
    assert host.package_versions("lab-plain") == {"lab-plain": "2.0"}
    where = "/var/lib/apt/lists /var/lib/dpkg /var/cache/apt /usr/share/lab-plain /etc/lab.conf"
    wrong = r"\( -perm /022 -o -type f ! -perm -004 \) ! -iname 'lock*' ! -path '*/partial*' ! -type l"
    assert host.sh(f"find {where} {wrong} -newer /etc/machine-id -ls", root=True).strip() == ""


def test_no_temporary_file_is_left(spill: Spill) -> None:
    assert list(spill.temporary.rglob("*")) == []
    parts = [path for path in spill.kept.rglob("*") if path.name.endswith((".part", ".tmp", ".new"))]
    assert parts == []


def test_an_agent_is_asked_only_where_it_is_the_credential(spill: Spill) -> None:
    assert spill.agent_visits["never asked for"] == 0
    assert spill.agent_visits["asked for"] > 0


# ---------------------------------------------------------------- the search finds what is there


@pytest.fixture
def planted() -> tuple[str, Search]:
    canary = new_canary("planted")
    return canary, Search({"planted": canary})


def test_the_search_finds_what_is_planted_in_files(tmp_path: Path, planted: tuple[str, Search]) -> None:
    canary, search = planted
    (tmp_path / "clear.log").write_text(f"password={canary}\n")
    (tmp_path / "packed.gz").write_bytes(gzip.compress(canary.encode()))
    pandas.DataFrame({"reason": [f"sudo said {canary}"] * 50}).to_parquet(tmp_path / "table.parquet")
    places = {hit.partition(": ")[0] for hit in search.tree(tmp_path)}
    assert places >= {
        str(tmp_path / "clear.log"),
        f"{tmp_path / 'packed.gz'} unpacked",
        f"{tmp_path / 'table.parquet'} unpacked",
    }


def test_the_search_finds_what_is_planted_in_databases(spill: Spill, planted: tuple[str, Search]) -> None:
    canary, search = planted
    with psycopg.connect(spill.database) as connection:
        connection.execute("CREATE TABLE planted (text text)")
        connection.execute("INSERT INTO planted VALUES (%s)", [f"x\\{canary}"])
    assert search.text("rows", database_text(spill.database)) != []


def test_the_search_finds_what_is_planted_on_a_host(spill: Spill) -> None:
    host = spill.hosts["all"]
    ways = {f"in {place}": f"cat > {place}" for place in ("/tmp/planted", "/run/planted", JOBS_PLANTED)}
    ways["in the journal"] = "logger -t planted"
    canaries = {place: new_canary("planted") for place in ways}
    search = Search(canaries)
    for place, command in ways.items():
        _enter(host, "sh", "-c", command, given=f"{canaries[place]}\n")
    hits = search_host(host, search)
    host.sh(f"rm /tmp/planted /run/planted {JOBS_PLANTED}", root=True)
    assert {place for place in ways if any(hit.endswith(f": {place} (clear)") for hit in hits)} == set(ways)


def test_the_watch_sees_what_is_planted_in_arguments(spill: Spill, planted: tuple[str, Search]) -> None:
    canary, search = planted
    script = f"sleep 0.5; : {canary}"
    with ProcessWatch() as watch:
        subprocess.run(["sh", "-c", script], check=True)
        _enter(spill.hosts["all"], "sh", "-c", script)
    hits = [line for line in watch.seen if search.text("arguments", line)]
    assert any(line.startswith(b"sh\0") for line in hits)
    assert any(line.startswith(b"nsenter\0") for line in hits)


def _enter(host: LabHost, *words: str, given: str = "") -> None:
    """Run a command on a host without SSH."""
    words = ("nsenter", "--mount", "--pid", "--ipc", "--uts", "--target", str(host.first_pid), *words)
    subprocess.run(words, input=given, text=True, check=True)
