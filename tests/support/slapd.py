"""A real slapd for tests: Debian's OpenLDAP over TLS on ports of the loopback, with people and groups."""

import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from ldap3 import NONE, Connection, Server

from fleetpatch.web.certificate import build_own_certificate
from tests.support.free_port import free_port

SLAPD: Final = Path("/usr/sbin/slapd")
BASE: Final = "dc=example,dc=org"
ADMIN: Final = f"cn=admin,{BASE}"
ADMIN_PASSWORD: Final = "made up for tests"
PASSWORD: Final = "correct horse"
START_SECONDS: Final = 60.0
_CONFIGURATION: Final = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
pidfile {place}/slapd.pid
TLSCertificateFile {place}/server.pem
TLSCertificateKeyFile {place}/server.pem
security simple_bind=128
database mdb
suffix "{base}"
rootdn "{admin}"
rootpw "{password}"
directory {place}/data
overlay memberof
"""


@dataclass
class LdapServer:
    """The server.

    Attributes:
        place: its files.
        names: the names in its certificate.
    """

    place: Path
    names: Sequence[str] = ("localhost",)
    port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.place / "slapd.log").open("ab") as log:
            addresses = f"ldap://localhost:{self.port} ldaps://localhost:{self.tls_port}"
            command = [str(SLAPD), "-d", "0", "-f", str(self.place / "slapd.conf"), "-h", addresses]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None, (self.place / "slapd.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def load(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        """Add entries by their DNs."""
        with self.connect() as connection:
            for dn, attributes in entries.items():
                assert connection.add(dn, attributes=dict(attributes)), connection.result

    def add_person(self, name: str, password: str = PASSWORD) -> str:
        """Add a person, and return the DN."""
        dn = f"uid={name},ou=people,{BASE}"
        attributes = {"objectClass": "inetOrgPerson", "uid": name, "cn": name, "sn": name, "userPassword": password}
        self.load({dn: attributes})
        return dn

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Yield a connection of the administrator."""
        server = Server("127.0.0.1", self.tls_port, use_ssl=True, get_info=NONE)
        with Connection(server, ADMIN, ADMIN_PASSWORD) as connection:
            yield connection

    def write_login_file(self, roles: Sequence[Mapping[str, Any]], **changes: Any) -> Path:
        """Write the file of logins for pages, and return it."""
        secret = self.place / "bind-password"
        secret.write_text(ADMIN_PASSWORD)
        secret.chmod(0o600)
        ldap = {
            "url": f"ldaps://localhost:{self.tls_port}",
            "bind_dn": ADMIN,
            "bind_password": f"file:{secret}",
            "base": BASE,
            "title": "Example directory",
            "ca": str(self.place / "ca.pem"),
        }
        path = self.place / "logins.yaml"
        path.write_text(yaml.safe_dump({"ldap": ldap | changes, "roles": list(roles)}))
        return path

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("localhost", self.tls_port)):
                return True
        except OSError:
            return False


@contextmanager
def run_slapd(place: Path, names: Sequence[str] = ("localhost",)) -> Iterator[LdapServer]:
    """Serve a directory with people and groups until the end of the block."""
    if not SLAPD.exists():
        pytest.skip("slapd is not there: deployments/bootstrap/packages.sh ldap installs it")
    (place / "data").mkdir(parents=True)
    certificate = build_own_certificate(names, datetime.now(UTC))
    (place / "server.pem").write_bytes(certificate)
    (place / "ca.pem").write_bytes(certificate[certificate.index(b"-----BEGIN CERTIFICATE") :])
    text = _CONFIGURATION.format(place=place, base=BASE, admin=ADMIN, password=ADMIN_PASSWORD)
    (place / "slapd.conf").write_text(text)
    server = LdapServer(place, names)
    server.start()
    try:
        unit = {"objectClass": "organizationalUnit"}
        server.load(
            {
                BASE: {"objectClass": ["dcObject", "organization"], "o": "Example", "dc": "example"},
                f"ou=people,{BASE}": unit,
                f"ou=groups,{BASE}": unit,
            }
        )
        yield server
    finally:
        server.stop()
