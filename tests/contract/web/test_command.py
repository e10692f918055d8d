"""`fleetpatch web` as a process: what it prints, its options, TLS, and how it ends."""

import hashlib
import json
import os
import pty
import pwd
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess

import httpx
import pytest
from cryptography import x509

from tasks.records.access_tokens import AccessToken, SqlAccessTokens
from tasks.records.setup import open_records
from tests.support.certificate import write_certificate
from tests.support.command import run_command
from tests.support.environment import KEYS_VARIABLE, PYTHONPATH, without_ours

START_SECONDS = 120.0
STOP_SECONDS = 30.0


def run(folder: Path, *words: str, **environment: str) -> CompletedProcess[str]:
    around = {"PATH": os.environ["PATH"], "HOME": str(folder), "COLUMNS": "200"} | environment
    around[KEYS_VARIABLE] = os.environ[KEYS_VARIABLE]
    around["FLEETPATCH_RECORDS_URL"] = f"sqlite:///{folder / 'records.db'}"
    around.setdefault(KEYS_VARIABLE, os.environ[KEYS_VARIABLE])
    return run_command(words, around, folder)


@contextmanager
def serve(folder: Path, *options: str) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """Yield the process and the address that it prints."""
    log = folder / "log"
    around = {
        **without_ours(),
        "PYTHONPATH": PYTHONPATH,
        "FLEETPATCH_RECORDS_URL": f"sqlite:///{folder / 'records.db'}",
    }
    ignoring = ("env", "--ignore-signal=INT", "--ignore-signal=HUP")  # as the background of a script
    command = [*ignoring, sys.executable, "-m", "fleetpatch.cli.command", "web", "--port", "0", *options]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=around, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield process, wait_for_address(process, log)
    finally:
        process.kill()
        process.wait()


def wait_for_address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    until = time.monotonic() + START_SECONDS
    while "fleetpatch web: " not in (said := log.read_text()):
        assert process.poll() is None, said
        assert time.monotonic() < until, said
        time.sleep(0.05)
    return said.split("fleetpatch web: ", 1)[1].split()[0]


def test_it_prints_its_address_and_ends_at_once_with_an_open_stream(tmp_path: Path) -> None:
    with serve(tmp_path) as (process, address), httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert f"fleetpatch web: {address} (records: {tmp_path}/records.db)" in (tmp_path / "log").read_text()
        with client.stream("GET", "/live/runs") as stream:
            assert stream.status_code == 200
            lines = stream.iter_lines()
            assert next(lines).startswith("retry: ")
            for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT):
                process.send_signal(number)
            assert process.wait(STOP_SECONDS) in {0, -signal.SIGTERM, 128 + signal.SIGTERM}
            assert "event" not in "".join(list(lines)[-1:])  # the stream has come to its end, without an error


def test_tls_and_a_cookie_for_tls_only(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    token = run(tmp_path, "web", "token", "add", "anna", "--role", "run").stdout.strip()
    options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--host", "0.0.0.0")
    with serve(tmp_path, *options) as (_, address):
        assert address.startswith(f"https://{socket.gethostname()}:")
        port = address.rpartition(":")[2]
        trusted = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", trust_env=False, verify=trusted, timeout=30) as client:
            answer = client.post("/login", data={"token": token})
            assert answer.status_code == 303
            assert answer.headers["set-cookie"].startswith("__Host-fleetpatch-session=")
            page = client.get("/").text
            assert "anna" in page
            assert "The certificate of these pages ends on" in page  # tomorrow
            assert "fleetpatch_certificate_end_timestamp_seconds" in client.get("/metrics").text
    assert "The certificate of these pages ends on" in (tmp_path / "log").read_text()


def test_it_makes_a_certificate_where_others_may_connect_and_says_its_fingerprint(tmp_path: Path) -> None:
    options = ("--host", "0.0.0.0", "--allow-host", "fleet.example.org")
    with keep_keys(tmp_path), serve(tmp_path, *options) as (_, address):
        assert address.startswith(f"https://{socket.gethostname()}:")
        port = int(address.rpartition(":")[2])
        made = tmp_path / "keys/web-tls"
        assert stat.S_IMODE(made.stat().st_mode) == 0o600
        trusted = ssl.create_default_context(cafile=made)
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", trust_env=False, verify=trusted, timeout=30) as client:
            answer = client.get("/login")
            assert answer.headers["strict-transport-security"] == "max-age=31536000"
            assert "Access token" in answer.text
        line = socket.create_connection(("127.0.0.1", port))
        with line, trusted.wrap_socket(line, server_hostname="fleet.example.org") as secured:
            shown = secured.getpeercert(binary_form=True)
        assert shown is not None
        digest = hashlib.sha256(shown).hexdigest().upper()
        assert ":".join(re.findall("..", digest)) in (tmp_path / "log").read_text()
        certificate = x509.load_der_x509_certificate(shown)
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=397)
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            assert not _speaks(port, version, "ALL:@SECLEVEL=0")
        assert not _speaks(port, ssl.TLSVersion.TLSv1_2, "ECDHE+AESCCM:AES256-SHA:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
        assert _speaks(port, ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM")
        assert _speaks(port, ssl.TLSVersion.TLSv1_3, "ALL")


def _speaks(port: int, version: ssl.TLSVersion, ciphers: str) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # old versions of TLS are on purpose
        context.minimum_version = context.maximum_version = version
    context.set_ciphers(ciphers)
    try:
        with socket.create_connection(("127.0.0.1", port)) as line, context.wrap_socket(line):
            return True
    except (ssl.SSLError, ConnectionError):
        return False


@contextmanager
def keep_keys(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEYS_VARIABLE, str(folder / "keys"))
        yield


def test_at_a_terminal_it_prints_a_link_that_logs_in(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    around = {**without_ours(), "PYTHONPATH": PYTHONPATH, "FLEETPATCH_RECORDS_URL": f"sqlite:///{tmp_path}/records.db"}
    command = [sys.executable, "-m", "fleetpatch.cli.command", "web", "--port", "0"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=around, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=slave
    )
    os.close(slave)
    try:
        said = b""
        while (found := re.search(rb"(http://[0-9.:]+)/login#(\S{43})\s", said)) is None:
            said += os.read(master, 4096)
        url, code = (text.decode() for text in found.groups())
        answer = httpx.post(f"{url}/login/link", data={"code": code}, trust_env=False, timeout=60)
        assert answer.status_code == 200
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_the_command_makes_a_link_that_logs_in_once_and_ends_sessions(tmp_path: Path) -> None:
    with serve(tmp_path) as (_, address), httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        assert "/login#" not in (tmp_path / "log").read_text()  # a log is no terminal
        link = run(tmp_path, "web", "login", "--url", address).stdout.strip()
        assert link.startswith(f"{address}/login#")
        code = {"code": link.partition("#")[2]}
        assert client.post("/login/link", data=code).status_code == 200
        account = pwd.getpwuid(os.getuid()).pw_name
        assert account in client.get("/").text
        assert client.post("/login/link", data=code).status_code == 403
        done = run(tmp_path, "web", "logout", account)
        assert f"{account} is logged out. Sessions ended: 1." in done.stderr
        assert f">{account}<" not in client.get("/").text
    said = run(tmp_path, "audit", "list").stdout
    assert "add login link" in said
    assert "end sessions" in said


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--host", "0.0.0.0", "--no-tls", "--tls"], "--no-tls and a certificate exclude each other"),
            (["--host", "192.0.2.1", "--no-tls"], "can't listen on 192.0.2.1"),
            (
                ["--host", "nowhere.invalid", "--no-tls"],
                "can't listen on nowhere.invalid port 0: the name is not known",
            ),
            (["--host", "[::1]"], "--host '[::1]' is no address"),
            (["--host", ""], "--host '' is no address"),
            (["--public-url", "https://example.org/fleet"], "these pages can't be below a path"),
            (["--allow-host", "https://fleet.example.org"], "--allow-host 'https://fleet.example.org' is no name"),
            (["--allow-host", "fleet.example.org:8443"], "--allow-host 'fleet.example.org:8443' is no name"),
            (["--trusted-proxy", "10.0.0.0/33"], "--trusted-proxy '10.0.0.0/33' is not a network"),
            (["--trusted-proxy", "proxy.example.org"], "is not a network"),
            (["--user-header", "X-User"], "--user-header needs --trusted-proxy"),
            (["--user-header", "X User", "--trusted-proxy", "::1"], "can't be the name of such a header"),
            (["--user-header", "Cookie", "--trusted-proxy", "::1"], "can't be the name of such a header"),
            (["--roles-header", "X-Roles", "--trusted-proxy", "::1"], "--roles-header needs --user-header"),
            (["--proxy-role", "admin"], "--proxy-role 'admin' is no role"),
            (["--tls-cert", "cert.pem"], "--tls-cert and --tls-key need each other"),
            (["--tls-cert", "no.pem", "--tls-key", "no.pem"], "--tls-cert no.pem can't be read: No such file"),
            (["--tls-cert", "bad.pem", "--tls-key", "bad.pem"], "can't be used together"),
            (["--zone", "Mars/Olympus"], "--zone: 'Mars/Olympus' is no time zone"),
            (["--public-url", "ftp://x"], "--public-url must begin with http"),
        ],
    )
    def test_options(self, tmp_path: Path, options: list[str], said: str) -> None:
        (tmp_path / "bad.pem").write_text("no certificate")
        done = run(tmp_path, "web", "--port", "0", *options)
        assert done.returncode in {2, 5}, done.stderr  # the request, or this machine
        assert said in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_port_that_is_used(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            done = run(tmp_path, "web", "--port", str(port))
        assert f"can't listen on 127.0.0.1 port {port}: the port is used by another process" in done.stderr

    def test_options_of_the_server_before_another_command(self, tmp_path: Path) -> None:
        done = run(tmp_path, "web", "--records", "sqlite:///other.db", "token", "list")
        assert done.returncode == 2
        assert "put it behind the command: fleetpatch web token … --records …" in done.stderr
        assert not (tmp_path / "other.db").exists()


class TestTokens:
    def test_a_token_is_shown_once_and_not_stored(self, tmp_path: Path) -> None:
        made = run(tmp_path, "web", "token", "add", "anna", "--role", "run", "--role", "approve", "--days", "30")
        token = made.stdout.strip()
        assert made.returncode == 0
        assert token.startswith("fp_")
        assert len(token) == 46
        assert "anna may view, approve, run." in made.stderr
        assert f"Only pages over these records accept it: {tmp_path}/records.db" in made.stderr
        listed = run(tmp_path, "web", "token", "list")
        assert "anna  view, approve, run" in listed.stdout
        assert token not in listed.stdout + run(tmp_path, "web", "token", "list", "--json").stdout
        assert token.encode() not in b"".join(each.read_bytes() for each in tmp_path.glob("records.db*"))

    def test_an_expired_token_is_marked(self, tmp_path: Path) -> None:
        yesterday = datetime.now(UTC) - timedelta(days=1)
        with open_records(f"sqlite:///{tmp_path}/records.db") as records:
            past = AccessToken("anna", ("view",), "root", yesterday, yesterday + timedelta(hours=1))
            SqlAccessTokens(records.database).add(past, "a" * 64)
        run(tmp_path, "web", "token", "add", "bert", "--days", "1")
        listed = run(tmp_path, "web", "token", "list").stdout.splitlines()
        assert [each.split()[0] for each in listed if "(expired)" in each] == ["anna"]
        listed_json = json.loads(run(tmp_path, "web", "token", "list", "--json").stdout)
        assert {each["name"]: each["is_expired"] for each in listed_json} == {"anna": True, "bert": False}

    def test_it_is_removed_by_name_and_the_audit_log_has_it(self, tmp_path: Path) -> None:
        run(tmp_path, "web", "token", "add", "anna")
        assert run(tmp_path, "web", "token", "remove", "anna").returncode == 0
        again = run(tmp_path, "web", "token", "remove", "anna")
        assert "there is no access token 'anna'" in again.stderr
        log = run(tmp_path, "audit", "list").stdout
        assert "add token" in log
        assert "remove token" in log
        assert '"act": "remove token"' in run(tmp_path, "audit", "list", "--json", "--act", "remove token").stdout

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["anna", "--role", "admin"], "admin is no role"),
            (["anna smith"], "'anna smith' can't be the name"),
            (["-x"], "No such option"),
            (["<b>"], "can't be the name"),
        ],
    )
    def test_what_is_refused(self, tmp_path: Path, words: list[str], said: str) -> None:
        done = run(tmp_path, "web", "token", "add", *words)
        assert done.returncode == 2
        assert said in done.stderr
        assert not done.stdout
