"""Two real clusters on lab hosts, what uses them all the time, and who watches how many members answer.

The members run the scripts of deployments/examples, as a user's would.
"""

import http.client
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from rich.console import Console

from tests.ci.tree import TOP
from tests.lab.fleet import PATIENCE, LabHost

EXAMPLES = TOP / "deployments/examples"
HAPROXY = EXAMPLES / "haproxy/haproxy-member.sh"
POSTGRESQL = EXAMPLES / "postgresql/postgresql-member.sh"
ON_MEMBER = f"/usr/local/sbin/{POSTGRESQL.name}"
tell = Console(soft_wrap=True, markup=False, highlight=False).print
ANSWER_SECONDS = 60.0  # nobody is taken for dead because the cores are busy: a dead member refuses at once
_PATIENT = {"timeout_minutes": 10}  # on cores that others use

_HAPROXY_SETTINGS = """
global
    stats socket ipv4@{address}:9999 level admin
    stats socket ipv4@{address}:9998 level user
defaults
    mode http
    timeout connect 30s
    timeout client 60s
    timeout server 60s
frontend shop
    bind :8080
    default_backend shop
backend shop
    option httpchk GET /
    default-server check inter 300ms fall 2 rise 2
"""
_POSTGRESQL_SETTINGS = """
listen_addresses = '*'
cluster_name = '{name}'
shared_buffers = 16MB
max_connections = 30
wal_log_hints = on
wal_keep_size = 256MB
wal_retrieve_retry_interval = 300ms
primary_conninfo = 'host={addresses} user=switchover dbname=postgres target_session_attrs=read-write connect_timeout=10'
"""
_MEMBER_SETTINGS = """MEMBERS="{addresses}" LOGIN=switchover WAIT_SECONDS=240
DATA=/var/lib/postgresql/15/main SERVICE=postgresql@15-main PROGRAMS=/usr/lib/postgresql/15/bin
"""
_FIRST = """set -e; pg_createcluster 15 main >/dev/null; {settings}
systemctl start postgresql@15-main
runuser -u postgres -- psql -qX -v ON_ERROR_STOP=1 <<'SQL'
SET synchronous_commit = local;
CREATE ROLE switchover LOGIN REPLICATION PASSWORD '{password}' IN ROLE pg_monitor;
GRANT EXECUTE ON FUNCTION pg_promote, pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean),
  pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) TO switchover;
CREATE ROLE app LOGIN PASSWORD '{password}';
CREATE TABLE kept (row bigint PRIMARY KEY); GRANT ALL ON kept TO app;
SQL"""
_STANDBY = """set -e; pg_createcluster 15 main >/dev/null; {settings}
rm -r /var/lib/postgresql/15/main
runuser -u postgres -- pg_basebackup -h {source} -U switchover -D /var/lib/postgresql/15/main -c fast
runuser -u postgres -- touch /var/lib/postgresql/15/main/standby.signal
systemctl start postgresql@15-main"""
_SETTINGS = """cd /etc/postgresql/15/main
echo {own} > conf.d/lab.conf
printf 'host all all 10.64.0.0/10 scram-sha-256\\nhost replication all 10.64.0.0/10 scram-sha-256\\n' >> pg_hba.conf
(umask 77; echo '*:*:*:*:{password}' > /var/lib/postgresql/.pgpass; chown postgres: /var/lib/postgresql/.pgpass)
echo {member} > /etc/postgresql-member.conf"""


def run_in_threads(*calls: Callable[[], object]) -> None:
    """Run them side by side, and raise what one of them raises."""
    with ThreadPoolExecutor(len(calls)) as pool:
        for each in [pool.submit(call) for call in calls]:
            each.result()


def _install(host: LabHost, script: Path) -> None:
    program = host.root / "usr/local/sbin" / script.name
    program.write_text(script.read_text())
    program.chmod(0o755)


def cluster_set(members: Sequence[LabHost], **more: Any) -> dict[str, Any]:
    """Return a set in an inventory: one member at a time."""
    scope = "|".join(host.name for host in members)
    return {"name": "cluster", "scope": f"name={scope}", "max_unavailable": 1, **more}


class Repeated:
    """Something that is done all the time, in threads of its own, while a ``with`` lasts."""

    def __init__(self, *acts: Callable[[], None], pause: float) -> None:
        self._acts, self._pause = acts, pause
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._repeat, args=(act,), daemon=True) for act in acts]
        self._broken: list[Exception] = []

    def _repeat(self, act: Callable[[], None]) -> None:
        try:
            while not self._over.is_set():
                act()
                self._over.wait(self._pause)
        except Exception as error:  # noqa: BLE001
            self._broken.append(error)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        if error is None and self._broken:
            raise self._broken[0]


# ---------------------------------------------------------------- web servers behind HAProxy


@dataclass(frozen=True)
class WebCluster:
    """Hosts with nginx, behind HAProxy on a host of its own."""

    balancer: LabHost
    members: Sequence[LabHost]

    def set_up(self) -> None:
        """Start HAProxy, and see that it uses all members."""
        servers = "".join(f"    server {host.name} {host.address}:80\n" for host in self.members)
        settings = _HAPROXY_SETTINGS.format(address=self.balancer.address) + servers
        (self.balancer.root / "etc/haproxy/haproxy.cfg").write_text(settings)
        for host in self.members:
            _install(host, HAPROXY)
        self.balancer.sh("systemctl start haproxy", root=True)

    def as_set(self) -> dict[str, Any]:
        """The set in an inventory."""
        balancer = self.balancer.address

        def action(verb: str) -> dict[str, Any]:
            words = f"{shlex.quote(str(HAPROXY))} {verb} shop/$FLEETPATCH_MACHINE {balancer}:9999"
            return {"kind": "controller-command", "target": f"sh -c 'WAIT_SECONDS=240 exec {words}'", **_PATIENT}

        words = f"/usr/local/sbin/{HAPROXY.name} healthy shop/$(hostname) {balancer}:9998"
        healthy = {"name": "gets requests", "kind": "command", "target": words, "timeout_seconds": ANSWER_SECONDS}
        return cluster_set(self.members, drain=action("drain"), undrain=action("undrain"), healthy=[healthy])


class Customers(Repeated):
    """Send some thirty requests a second: one connection for each, no second try."""

    def __init__(self, balancer: LabHost, threads: int = 3) -> None:
        self._address = balancer.address
        self._lock = threading.Lock()
        self.sent = 0
        self.failures: list[str] = []
        super().__init__(*[self._ask] * threads, pause=0.1)

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(self._address, 8080, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            failure = "" if answer.status == http.HTTPStatus.OK else f"status {answer.status}"
        except (OSError, http.client.HTTPException) as error:
            failure = repr(error)
        finally:
            connection.close()
        with self._lock:
            self.sent += 1
            self.failures += [failure] if failure else []


# ---------------------------------------------------------------- PostgreSQL


@dataclass(frozen=True)
class PostgresCluster:
    """A primary and standbys on lab hosts; a commit is confirmed when one standby has it, too."""

    members: Sequence[LabHost]
    synchronous: bool = True  # otherwise commits wait for no standby
    password: str = field(default_factory=lambda: secrets.token_hex(8), repr=False)

    def set_up(self, primary: LabHost) -> None:
        """Make the primary, then the standbys from it."""
        self._begin(primary, _FIRST)
        standbys = [host for host in self.members if host != primary]
        run_in_threads(*[lambda host=host: self._begin(host, _STANDBY, source=primary.address) for host in standbys])
        wait_for_streams(self, len(standbys))

    def _begin(self, host: LabHost, script: str, **more: str) -> None:
        addresses = [each.address for each in self.members]
        names = ", ".join(f'"{each.name}"' for each in self.members)
        own = _POSTGRESQL_SETTINGS.format(name=host.name, addresses=",".join(addresses))
        own += f"synchronous_standby_names = 'ANY 1 ({names})'\n" if self.synchronous else ""
        member = _MEMBER_SETTINGS.format(addresses=" ".join(addresses))
        settings = _SETTINGS.format(own=shlex.quote(own), member=shlex.quote(member), password=self.password)
        _install(host, POSTGRESQL)
        host.sh(script.format(settings=settings, password=self.password, **more), root=True, timeout=PATIENCE)

    def as_set(self) -> dict[str, Any]:
        """The set in an inventory."""

        def action(verb: str) -> dict[str, Any]:
            return {"kind": "machine-command", "target": f"{ON_MEMBER} {verb}", **_PATIENT}

        words = f"{ON_MEMBER} healthy"
        healthy = {"name": "serves and streams", "kind": "command", "target": words, "timeout_seconds": ANSWER_SECONDS}

        return cluster_set(
            self.members,
            role={"command": f"{ON_MEMBER} role", "timeout_seconds": PATIENCE},
            order=["replica", "primary"],
            quorum=len(self.members) // 2 + 1,
            drain=action("drain"),
            undrain=action("undrain"),
            healthy=[healthy],
        )

    def connect(self, *hosts: LabHost, **options: Any) -> "psycopg.Connection[tuple[Any, ...]]":
        """Connect to one of these members."""
        return psycopg.connect(
            host=",".join(host.address for host in hosts),
            user="app",
            password=self.password,
            dbname="postgres",
            connect_timeout=int(ANSWER_SECONDS),
            autocommit=True,
            **options,
        )

    def connect_to_primary(self) -> "psycopg.Connection[tuple[Any, ...]]":
        """Connect to whichever member takes writes."""
        return self.connect(*self.members, target_session_attrs="read-write")

    def primary(self, members: Sequence[LabHost] = ()) -> LabHost:
        """The one of these members (of all, if none is named) that is primary by its own word."""
        asked = members or self.members
        roles = {host: host.sh(f"{ON_MEMBER} role", root=True, timeout=PATIENCE).split()[0] for host in asked}
        (found,) = [host for host, role in roles.items() if role == "primary"]
        return found

    def streaming(self, members: Sequence[LabHost] = ()) -> int:
        """How many standbys stream from the primary, which is one of these members."""
        select = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        return int(self.primary(members).sh(f'cd /; sudo -u postgres psql -XAtc "{select}"'))

    def rows(self) -> set[int]:
        """The rows that the primary has."""
        with self.connect_to_primary() as connection:
            return {row for (row,) in connection.execute("SELECT row FROM kept")}


def wait_for_streams(cluster: PostgresCluster, count: int, seconds: float = PATIENCE) -> None:
    """Wait until so many standbys stream."""
    until = time.monotonic() + seconds
    while cluster.streaming() != count:
        assert time.monotonic() < until, f"never seen: {count} standbys that stream"
        time.sleep(0.3)


class Writer(Repeated):
    """Write rows to the primary, whichever member that is, and remember which of them were confirmed."""

    def __init__(self, cluster: PostgresCluster) -> None:
        self._cluster = cluster
        self._line: psycopg.Connection[tuple[Any, ...]] | None = None
        self.tried = 0
        self.confirmed: set[int] = set()
        super().__init__(self._write, pause=0.05)

    def __exit__(self, *how: Any) -> None:
        super().__exit__(*how)
        self._hang_up()

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line = None

    def _write(self) -> None:
        self.tried += 1
        try:
            if self._line is None:
                self._line = self._cluster.connect_to_primary()
            self._line.execute("INSERT INTO kept VALUES (%s)", (self.tried,))
            self.confirmed.add(self.tried)
        except psycopg.Error:  # it is not confirmed: it may be there or not
            self._hang_up()


# ---------------------------------------------------------------- who watches


@dataclass(frozen=True, slots=True)
class Absence:
    """A time at which a member surely didn't answer: from the end of the first refusal to the begin of the last."""

    host: str
    first: float
    last: float


class Watcher(Repeated):
    """Ask every member several times a second whether it answers, each in a thread of its own."""

    def __init__(self, ask: Callable[[LabHost], None], members: Sequence[LabHost]) -> None:
        self._ask = ask
        self._members = [host.name for host in members]
        self._asked: dict[str, list[tuple[float, float, bool]]] = {name: [] for name in self._members}
        super().__init__(*[lambda host=host: self._look(host) for host in members], pause=0.15)

    def _look(self, host: LabHost) -> None:
        begin = time.monotonic()
        try:
            self._ask(host)
            answers = True
        except (OSError, psycopg.Error):
            answers = False
        self._asked[host.name].append((begin, time.monotonic(), answers))

    @property
    def asked(self) -> int:
        """How often a member was asked."""
        return sum(map(len, self._asked.values()))

    def absences(self) -> list[Absence]:
        """When members didn't answer."""
        found: list[Absence] = []
        for name, asked in self._asked.items():
            present: Absence | None = None
            for begin, end, answers in asked:
                if answers:
                    present = None
                elif present is None:
                    found.append(present := Absence(name, end, end))
                else:
                    found[-1] = present = Absence(name, present.first, begin)
        return found

    def fewest(self) -> int:
        """How many members answered when the fewest did."""
        absent = self.absences()
        together = (sum(each.first <= at.first <= each.last for each in absent) for at in absent)
        return len(self._members) - max(together, default=0)


def watch_postgresql(cluster: PostgresCluster) -> Watcher:
    """Ask each member of a PostgreSQL cluster for a row."""

    def ask(host: LabHost) -> None:
        with cluster.connect(host) as connection:
            connection.execute("SELECT 1")

    return Watcher(ask, cluster.members)


def watch_http(members: Sequence[LabHost]) -> Watcher:
    """Ask each web server for its page."""

    def ask(host: LabHost) -> None:
        connection = http.client.HTTPConnection(host.address, 80, timeout=ANSWER_SECONDS)
        with ExitStack() as stack:
            stack.callback(connection.close)
            connection.request("GET", "/")
            connection.getresponse().read()

    return Watcher(ask, members)
