"""A Kerberos realm of the tests: a real KDC (MIT's krb5kdc) on loopback, with files of its own."""

import contextlib
import importlib.util
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.lab.windows.ports import ADDRESS

REALM: Final = "FLEET.TEST"
PACKAGES: Final = "krb5-kdc krb5-admin-server krb5-user"
_PROGRAMS: Final = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit", "klist", "kvno")
_MODULES: Final = ("kerberos", "gssapi", "krb5")
_PATH: Final = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
_SECONDS: Final = 60.0


def why_not() -> str:
    """Why there can be no realm here; empty: there can."""
    modules = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if modules:
        return f"Python has no {', '.join(modules)}: `make kerberos` compiles them"
    programs = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    return f"there is no {', '.join(programs)} (Debian: {PACKAGES})" if programs else ""


class Realm:
    """A realm, its KDC, and a cache of tickets. Used as a context, its KDC runs.

    Attributes:
        environment: has the Kerberos library use this realm, its tickets and its keys.
        cache: the tickets that `log_in` got.
    """

    def __init__(self, folder: Path) -> None:
        """Make a realm without principals in a folder."""
        folder.mkdir(parents=True)
        self.folder = folder
        self.cache = folder / "tickets"
        self.keytab = folder / "keytab"
        with socket.create_server((ADDRESS, 0)) as taken:
            self._port = taken.getsockname()[1]
        (folder / "krb5.conf").write_text(
            f"[libdefaults]\ndefault_realm = {REALM}\nrdns = false\ndns_canonicalize_hostname = false\n"
            "dns_lookup_kdc = false\ndns_lookup_realm = false\nudp_preference_limit = 1\n"
            f"[realms]\n{REALM} = {{\nkdc = {ADDRESS}:{self._port}\n}}\n"
        )
        (folder / "kdc.conf").write_text(
            f"[kdcdefaults]\nkdc_listen = {ADDRESS}:{self._port}\nkdc_tcp_listen = {ADDRESS}:{self._port}\n"
            f"[realms]\n{REALM} = {{\ndatabase_name = {folder}/principal\nkey_stash_file = {folder}/stash\n}}\n"
            f"[logging]\nkdc = FILE:{folder}/log\n"
        )
        self.environment = {
            "KRB5_CONFIG": str(folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(folder / "kdc.conf"),
            "KRB5CCNAME": f"FILE:{self.cache}",
            "KRB5_KTNAME": f"FILE:{self.keytab}",
            "KRB5RCACHENAME": f"file2:{folder}/replays",
        }
        self._kdc: subprocess.Popen[bytes] | None = None
        self._run("kdb5_util", "create", "-s", "-P", "master", "-r", REALM)

    def add_user(self, name: str) -> None:
        """Add a user, whose keys go to a file of its own."""
        self._administer(f"addprinc -randkey {name}", f"ktadd -norandkey -k {self.folder}/{name}.keytab {name}")

    def add_service(self, principal: str) -> None:
        """Add a service, whose keys go to the keytab of the machines."""
        self._administer(f"addprinc -randkey {principal}", f"ktadd -norandkey {principal}")

    def change_keys(self, principal: str) -> None:
        """Give a service other keys, of which its machine knows nothing."""
        self._administer(f"change_password -randkey {principal}")

    def log_in(self, name: str, *, seconds: int = 3600) -> None:
        """Get a user's first ticket, as kinit does."""
        self.log_out()
        self._run("kinit", "-l", f"{seconds}s", "-k", "-t", f"{self.folder}/{name}.keytab", name)

    def let_expire(self, name: str) -> None:
        """Have a user's ticket be one that has expired."""
        self.log_in(name, seconds=1)
        self._wait(lambda: not self._has_ticket(), "the ticket does not expire")
        last = int(time.time())  # the second in which it ends is good for some, and not for others
        self._wait(lambda: int(time.time()) > last, "the clock stands still")

    def log_out(self) -> None:
        """Forget all tickets."""
        self.cache.unlink(missing_ok=True)

    def get_ticket(self, principal: str) -> None:
        """Get a ticket for a service, so that no KDC is needed any more."""
        self._run("kvno", principal)

    def shift_clock(self, seconds: int) -> None:
        """Have the client take its own clock for slow by so much.

        The library writes the KDC's offset into the cache. So the machine's clock differs by that much.
        """
        content = self.cache.read_bytes()
        version, length = struct.unpack_from(">HH", content)
        assert version == 0x504, "another version of the cache's format"
        field = struct.pack(">HHii", 1, 8, seconds, 0)
        self.cache.write_bytes(struct.pack(">HH", version, len(field)) + field + content[4 + length :])

    def start(self) -> None:
        """Start the KDC; it answers when this returns."""
        command = [self._find("krb5kdc"), "-n", "-r", REALM]  # -n: in the foreground
        self._kdc = subprocess.Popen(
            command, env=os.environ | self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._wait(self._answers, "the KDC does not answer")

    def stop(self) -> None:
        """End the KDC: it refuses connections from now on."""
        if self._kdc is not None:
            self._kdc.terminate()
            self._kdc.wait(_SECONDS)
            self._kdc = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((ADDRESS, self._port), timeout=_SECONDS).close()
            return True
        return False

    def _has_ticket(self) -> bool:
        return self._call("klist", "-s").returncode == 0

    def _wait(self, condition: Callable[[], bool], otherwise: str) -> None:
        end = time.monotonic() + _SECONDS
        while not condition():
            assert time.monotonic() < end, otherwise
            time.sleep(0.05)

    def _administer(self, *orders: str) -> None:
        for order in orders:
            self._run("kadmin.local", "-r", REALM, "-q", order)

    def _run(self, program: str, *words: str) -> None:
        done = self._call(program, *words)
        assert done.returncode == 0, done.stdout + done.stderr

    def _call(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._find(program), *words], env=os.environ | self.environment, capture_output=True, text=True,
            check=False, timeout=_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def _find(self, program: str) -> str:
        return shutil.which(program, path=_PATH) or program
