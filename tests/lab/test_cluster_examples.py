"""The scripts for members of clusters, by themselves: asked twice, at the wrong time, and killed in the middle."""

import subprocess

import psycopg
import pytest

from tests.lab.clusters import HAPROXY, ON_MEMBER, PostgresCluster, WebCluster, Writer, wait_for_streams
from tests.lab.fleet import PATIENCE, BootHosts, LabError, LabHost
from tests.lab.killing import wait_for

pytestmark = pytest.mark.slow


def member(host: LabHost, verb: str) -> str:
    return host.sh(f"{ON_MEMBER} {verb} 2>&1", root=True, timeout=PATIENCE)


def test_haproxy_drains_twice_never_the_last_server_and_undrains_only_what_answers(hosts: BootHosts) -> None:
    balancer, one, two = hosts(3, "cluster")
    cluster = WebCluster(balancer, [one, two])
    cluster.set_up()

    def ask(verb: str, server: str, wait: int = 240, port: int = 9999) -> tuple[int, str]:
        words = [str(HAPROXY), verb, f"shop/{server}", f"{balancer.address}:{port}"]
        environment = {"PATH": "/usr/bin:/bin", "WAIT_SECONDS": str(wait)}
        done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False)
        return done.returncode, done.stderr

    good = (0, "")
    assert ask("undrain", one.name) == good
    assert ask("drain", one.name) == ask("drain", one.name) == good
    code, said = ask("healthy", one.name, port=9998)
    assert (code, "gets no requests" in said, "MAINT" in said) == (1, True, True), said
    code, said = ask("drain", two.name)
    assert (code, "is the last server" in said) == (1, True), said
    assert ask("healthy", two.name) == good

    one.sh("systemctl stop nginx", root=True)
    code, said = ask("undrain", one.name, wait=2)
    assert (code, "health check of" in said) == (1, True), said
    one.sh("systemctl start nginx", root=True)
    assert ask("undrain", one.name) == ask("undrain", one.name) == good
    assert ask("healthy", one.name, port=9998) == good

    code, said = ask("drain", "nobody")
    assert (code, "has no server shop/nobody" in said) == (1, True), said
    code, said = ask("drain", one.name, port=9)
    assert (code, "doesn't answer" in said) == (1, True), said


def test_a_switchover_that_is_killed_is_taken_up_and_a_former_primary_can_rejoin(hosts: BootHosts) -> None:
    members = hosts(2, "cluster")
    old, new = members
    cluster = PostgresCluster(members, synchronous=False)
    cluster.set_up(old)
    pending = old.root / "var/lib/postgresql-member/switchover"
    with Writer(cluster) as writer:
        wait_for(lambda: len(writer.confirmed) > 10, "rows")
        confirm(old, "*")
        for host, why in ((new, "no other standby to confirm"), (old, "This member stays primary")):
            with pytest.raises(LabError, match=why):
                member(host, "drain")
        confirm(old, "")
        assert member(new, "drain") == ""
        old.sh(f"setsid {ON_MEMBER} drain > /dev/null 2>&1 & echo $! > /run/drain", root=True)
        wait_for(lambda: pending.exists() and "promoting" in pending.read_text(), "the promotion", 60)
        old.sh('/bin/kill -9 -- "-$(cat /run/drain)"', root=True)
        assert "this member is a standby" in member(old, "drain")
        assert not pending.exists()
        wait_for_streams(cluster, 1)
        assert member(old, "undrain") == ""
        confirmed = len(writer.confirmed)
        wait_for(lambda: len(writer.confirmed) > confirmed + 10, "rows in the new primary")
    assert cluster.primary() == new
    assert writer.confirmed <= cluster.rows()

    # both are primary, as after a failover by hand: what only the old one has is lost when it rejoins
    old.sh('cd /; sudo -u postgres psql -qc "SELECT pg_promote()"', root=True)
    for host in members:
        with cluster.connect(host) as line:
            line.execute("SET synchronous_commit = local")
            line.execute("INSERT INTO kept VALUES (%s)", (-host.number,))
    member(old, "rejoin")
    wait_for(lambda: -new.number in read(cluster, old), "the new primary's row")
    assert -old.number not in read(cluster, old)
    assert member(old, "role") == "replica\n"


def confirm(host: LabHost, names: str) -> None:
    for statement in (f"ALTER SYSTEM SET synchronous_standby_names = '{names}'", "SELECT pg_reload_conf()"):
        host.sh(f'cd /; sudo -u postgres psql -qc "{statement}"', root=True)


def read(cluster: PostgresCluster, host: LabHost) -> set[int]:
    try:
        with cluster.connect(host) as line:
            return {row for (row,) in line.execute("SELECT row FROM kept")}
    except psycopg.Error:
        return set()
