"""libvirt_overlay.sh in real shells, with stand-ins for what acts: whose jobs on a machine's disks it ends."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.domain.protocols.transport import Script, ScriptRecord
from tasks.machines.transport.output_decoder import ScriptOutputDecoder, generate_nonce
from tasks.machines.transport.posix_shell import build_script_stdin
from tasks.machines.transport.script_library import compose_script
from tests.support.shells import SHELLS

SCRIPT = Script("libvirt_overlay", package="tasks.machines.providers")
PROXY = Path("/lib/systemd/systemd-socket-proxyd")
VIRSH = """[ "$1" != -q ] || shift
place=$(dirname "$0")/..
echo "$*" >>"$place/asked"
[ ! -e "$place/fails/$1" ] || { cat "$place/fails/$1" >&2; exit 1; }
case $1 in
  domstate) case $2 in *.rehearsal) [ -e "$place/other" ] || exit 1 ;; esac; echo running ;;
  domjobinfo)
    if [ -e "$place/job" ]; then printf 'Job type:         Unbounded   \\nOperation:        %s\\n' "$(cat "$place/job")"
    else echo 'Job type:         None        '; fi ;;
  backup-dumpxml) cat "$place/backup" ;;
  blockjob) cat "$place/blockjob" 2>/dev/null || true ;;
  dominfo) echo 'Max memory:     1024 KiB' ;;
  domjobabort) rm "$place/job" ;;
esac
"""
IP = """place=$(dirname "$0")/..
echo "$*" >>"$place/ip"
case "$1 $2 ${4-}" in
  'netns add '*) : >"$place/namespace" ;;
  'netns delete '*) rm "$place/namespace" ;;
  'netns list '*) [ ! -e "$place/namespace" ] || echo 'fp0123abcd (id: 1)' ;;
  'netns pids '*) cat "$place/inside" 2>/dev/null ;;
  'netns exec dnsmasq')
    cat >"$place/dnsmasq"
    [ ! -e "$place/fails/dnsmasq" ] || { cat "$place/fails/dnsmasq" >&2; exit 2; } ;;
esac
"""
TOOLS = {
    "virsh": VIRSH,
    "qemu-img": """case $1 in info) echo '"virtual-size": 1024' ;; esac\n""",
    "df": "echo head; echo / 0 0 999999999\n",
    "ip": IP,
    **dict.fromkeys(("mount", "umount", "chown", "chmod", "fallocate", "nsenter", "nft", "dnsmasq"), ""),
    **dict.fromkeys(("systemd-socket-activate", "setsid"), ""),
}


@dataclass(frozen=True, slots=True)
class Host:
    place: Path
    shell: list[str]

    @property
    def folder(self) -> Path:
        return self.place / "web.rehearsal"

    def has_job(self, operation: str, socket: str = "/run/of-the-backup/disks") -> None:
        (self.place / "job").write_text(operation)
        (self.place / "backup").write_text(f"<domainbackup><server transport='unix' socket='{socket}'/>")

    def has_own_job(self) -> None:
        self.has_job("Backup", f"{self.place / 'run'}/nbd/disks")

    def has_copy(self, *, is_exported: bool) -> None:
        self.folder.mkdir()
        (self.folder / "id").write_text("r-1\n")
        if is_exported:
            (self.folder / "exported").touch()

    def asked(self, verb: str) -> list[str]:
        return [line for line in (self.place / "asked").read_text().splitlines() if line.split()[0] == verb]

    def run(self, work: str) -> Sequence[ScriptRecord]:
        names = ("uri", "ssh_port", "address", "nvram", "cards", "freeze", "xml", "backup_xml")
        given: dict[str, str | tuple[str, ...]] = {
            **dict.fromkeys(names, ""),
            "work": work,
            "domain": "web",
            "copy": "web.rehearsal",
            "card": "fp0123abcd",
            "overlay_id": "r-1",
            "place": str(self.folder),
            "run": str(self.place / "run"),
            "cards": "0",
            "disks": f"vda {self.place}/web.qcow2",
            "addresses": "10.0.0.1\n10.0.0.5",
            "repositories": "10.0.0.5:80",
            "dnsmasq": "no-resolv\naddress=/#/",
            "reaches": "mirror.lan:80 10.0.0.5",
        }
        nonce = generate_nonce()
        done = subprocess.run(
            [*self.shell, "-s"],
            input=build_script_stdin(compose_script(SCRIPT), given, nonce),
            capture_output=True,
            env={"PATH": f"{self.place / 'tools'}:{os.environ['PATH']}"},
            check=False,
            timeout=60,
        )
        decoder = ScriptOutputDecoder(nonce)
        decoder.feed_stdout(done.stdout)
        output = decoder.build_output()
        assert output.records, done.stderr
        return output.records

    def fail(self, work: str) -> str:
        (failed,) = self.run(work)
        assert failed["kind"] == "failed"
        return str(failed["why"])


@pytest.fixture(params=[name for name, words in SHELLS.items() if shutil.which(words[0])])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    for folder in ("tools", "fails"):
        (tmp_path / folder).mkdir()
    for name, text in TOOLS.items():
        tool = tmp_path / "tools" / name
        tool.write_text(f"#!/bin/sh\n{text}")
        tool.chmod(0o755)
    words = SHELLS[request.param]
    return Host(tmp_path, [str(shutil.which(words[0])), *words[1:]])


needs_proxy = pytest.mark.skipif(not PROXY.exists(), reason="systemd-socket-proxyd is not installed")


@pytest.mark.parametrize("is_exported", [True, False])
@pytest.mark.parametrize("operation", ["Backup", "Outgoing migration"])
def test_the_job_of_somebody_else_goes_on_when_a_copy_is_deleted(host: Host, operation: str, is_exported: bool) -> None:
    host.has_copy(is_exported=is_exported)
    host.has_job(operation)
    note, ended = host.run("delete")
    assert note["text"] == f"web is left at work: a job of somebody else: {operation}"
    assert (ended["kind"], host.folder.exists(), host.asked("domjobabort")) == ("ended", False, [])


def test_its_own_export_is_ended(host: Host) -> None:
    host.has_copy(is_exported=True)
    host.has_own_job()
    assert [record["kind"] for record in host.run("delete")] == ["ended"]
    assert (host.asked("domjobabort"), host.folder.exists()) == (["domjobabort web"], False)


def test_without_its_mark_an_export_is_not_ended_and_its_files_stay(host: Host) -> None:
    host.has_copy(is_exported=False)
    host.has_own_job()
    assert "says nothing of it" in host.fail("delete")
    assert (host.asked("domjobabort"), host.folder.exists()) == ([], True)


@pytest.mark.parametrize("verb", ["domjobinfo", "backup-dumpxml"])
def test_a_job_that_can_not_be_read_keeps_the_files(host: Host, verb: str) -> None:
    host.has_copy(is_exported=True)
    host.has_own_job()
    (host.place / "fails" / verb).write_text("no connection")
    assert "can't be read: no connection" in host.fail("delete")
    assert (host.asked("domjobabort"), host.folder.exists()) == ([], True)


def test_a_copy_without_a_job_is_deleted(host: Host) -> None:
    host.has_copy(is_exported=True)
    assert [record["kind"] for record in host.run("delete")] == ["ended"]
    assert not host.folder.exists()


@needs_proxy
def test_no_copy_begins_beside_a_job_and_its_deletion_leaves_the_job(host: Host) -> None:
    host.has_job("Backup")
    assert host.fail("start") == ("web is at work, so its disks are not exported: a job of somebody else: Backup")
    assert not (host.folder / "exported").exists()
    assert [record["kind"] for record in host.run("delete")] == ["note", "ended"]
    assert (host.asked("backup-begin"), host.asked("domjobabort"), host.folder.exists()) == ([], [], False)


@needs_proxy
def test_a_domain_of_somebody_else_with_the_name_of_the_copy_is_never_ended(host: Host) -> None:
    (host.place / "other").touch()
    assert "there is a domain web.rehearsal already" in host.fail("start")
    assert [record["kind"] for record in host.run("delete")] == ["ended"]
    (host.place / "other").unlink()
    (host.place / "fails/create").write_text("domain 'web.rehearsal' already exists with uuid 1")  # defined meanwhile
    assert "the copy was not created" in host.fail("start")
    (host.place / "other").touch()
    assert "web.rehearsal is left" in str(host.run("delete")[0]["text"])
    assert (host.asked("destroy"), host.folder.exists()) == ([], False)


@needs_proxy
def test_a_copy_whose_creation_was_not_answered_is_ended(host: Host) -> None:
    (host.place / "fails/create").write_text("End of file while reading data")
    host.fail("start")
    (host.place / "other").touch()
    host.run("delete")
    assert host.asked("destroy") == ["destroy web.rehearsal"]


@needs_proxy
def test_no_copy_begins_beside_a_job_on_one_disk(host: Host) -> None:
    (host.place / "blockjob").write_text(" type=Block Copy\n bandwidth=0\n cur=1\n end=2\n")
    assert host.fail("start") == (
        "web is at work on its disk vda, so it is not exported: type=Block Copy bandwidth=0 cur=1 end=2 "
    )
    assert host.asked("backup-begin") == []


@needs_proxy
def test_an_export_that_did_not_begin_has_no_mark(host: Host) -> None:
    (host.place / "fails/backup-begin").write_text("refused")
    assert host.fail("start") == "the export of its disks did not begin: refused"
    assert not (host.folder / "exported").exists()


@needs_proxy
def test_an_export_that_begins_is_marked_and_ended(host: Host) -> None:
    assert [record["kind"] for record in host.run("start")] == ["ended"]
    assert (host.folder / "exported").exists()
    host.has_own_job()
    assert [record["kind"] for record in host.run("delete")] == ["ended"]
    assert host.asked("domjobabort") == ["domjobabort web"]


@needs_proxy
def test_a_copy_has_a_resolver_that_ends_with_it(host: Host) -> None:
    assert [record["kind"] for record in host.run("start")] == ["ended"]
    assert (host.place / "dnsmasq").read_text() == "no-resolv\naddress=/#/\n"
    assert (host.folder / "reaches").read_text() == "mirror.lan:80 10.0.0.5\n"
    orders = (host.place / "ip").read_text()
    for own in ("10.0.0.1", "10.0.0.5"):
        assert f"ip address replace {own}/32 dev br0" in orders
    assert "dport 53 redirect" in orders
    with subprocess.Popen(["sleep", "60"]) as resolver:
        (host.place / "inside").write_text(f"{resolver.pid}\n")
        assert [record["kind"] for record in host.run("delete")] == ["ended"]
        assert resolver.wait(timeout=10) == -signal.SIGTERM
    assert not (host.place / "namespace").exists()
    assert [record["kind"] for record in host.run("delete")] == ["ended"]


@needs_proxy
def test_a_resolver_that_does_not_start_leaves_nothing_that_is_not_deleted(host: Host) -> None:
    (host.place / "fails/dnsmasq").write_text("dnsmasq: unknown user or group: dnsmasq")
    assert "unknown user or group" in host.fail("start")
    assert (host.place / "namespace").exists()
    assert [record["kind"] for record in host.run("delete")] == ["ended"]
    assert (host.folder.exists(), (host.place / "namespace").exists()) == (False, False)
