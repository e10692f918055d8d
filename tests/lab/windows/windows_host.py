"""A Windows host for tests, as it is seen from the network: WS-Management over HTTP and HTTPS, on loopback."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.windows.accounts import Account, Accounts
from tests.lab.windows.authentication import Method
from tests.lab.windows.certificates import Authority, Certificate, Kind, server_context
from tests.lab.windows.connection import Connection, Settings
from tests.lab.windows.executor import Executor
from tests.lab.windows.fault_schedule import Fault, Schedule, What
from tests.lab.windows.noise import Noise
from tests.lab.windows.ports import ADDRESS, Port
from tests.lab.windows.service import Service
from tests.lab.windows.shells import Quotas, Shells

ADMINISTRATOR = Account("Administrator", "Pa:ss w0rd!", upn="administrator@localhost")
DEFAULT_METHODS: dict[str, frozenset[Method]] = {
    "http": frozenset({"negotiate", "credssp"}),
    "https": frozenset({"negotiate", "credssp", "basic", "certificate"}),
}


@dataclass
class Options:
    """How a host differs from others.

    Attributes:
        version: what Identify tells of it.
        noise: what it mixes into output.
        lockout_threshold: wrong passwords in a row after which an account is locked; 0: never.
    """

    accounts: list[Account] = field(default_factory=lambda: [ADMINISTRATOR])
    version: str = "10.0.20348"
    quotas: Quotas = field(default_factory=Quotas)
    noise: Noise = field(default_factory=Noise)
    lockout_threshold: int = 0
    offered: dict[str, frozenset[Method]] = field(default_factory=lambda: dict(DEFAULT_METHODS))


class WindowsHost:
    """A host. It is off until `power_on`, and used as a context it is on.

    Attributes:
        boots: how often it was started.
        before_power_off: called when it loses its power; as by what runs its programs, which end with it.
        before_power_on: called before its ports open; False: the machine does not come up.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        executor: Executor,
        *,
        authority: Authority | None = None,
        options: Options | None = None,
    ) -> None:
        """Make a host whose files are in `folder`; hosts may share an authority."""
        options = options or Options()
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.address = ADDRESS
        self.authority = authority or Authority(folder)
        self.accounts = Accounts(name, folder, options.lockout_threshold, list(options.accounts))
        self.schedule = Schedule()
        self.shells = Shells(options.quotas, executor, options.noise)
        self.boots = 0
        self.connected = 0
        self.before_power_off: Callable[[], None] = lambda: None
        self.before_power_on: Callable[[], bool] = lambda: True
        self._lock = threading.Lock()
        self._on = False
        self._closed = False
        self._client_certificate: Certificate | None = None
        self._timer: threading.Timer | None = None
        self._connections: set[Connection] = set()
        self._http = Port(lambda connection: self._serve(connection, "http"))
        self._https = Port(lambda connection: self._serve(connection, "https"))
        self.certificate = self.authority.for_host(name)
        self.settings = Settings(
            self.accounts,
            Service(name, options.version, self.shells, lambda: f"http://{name}:5985/wsman"),
            self.schedule,
            dict(options.offered),
            self._tls(self.certificate),
            lambda: self.certificate.der,
            self._happen,
        )

    @property
    def http_port(self) -> int:
        return self._http.number

    @property
    def https_port(self) -> int:
        return self._https.number

    @property
    def http_url(self) -> str:
        return f"http://{self.address}:{self.http_port}/wsman"

    @property
    def https_url(self) -> str:
        return f"https://{self.address}:{self.https_port}/wsman"

    @property
    def user(self) -> str:
        return self.accounts.accounts[0].user

    @property
    def password(self) -> str:
        return self.accounts.accounts[0].password

    @property
    def ca_file(self) -> Path:
        return self.authority.file

    @property
    def thumbprint(self) -> str:
        """SHA-1 of its certificate, as Windows shows it."""
        return self.certificate.thumbprint

    @property
    def is_on(self) -> bool:
        return self._on

    @property
    def connections(self) -> int:
        """How many connections there are; `connected` is how many there ever were."""
        with self._lock:
            return len(self._connections)

    def client_certificate(self) -> Certificate:
        """The certificate that logs in its first account."""
        if self._client_certificate is None:
            self._client_certificate = self.authority.for_user(self.accounts.accounts[0].upn)
        return self._client_certificate

    def show(self, kind: Kind) -> Certificate:
        """Show another certificate at new connections."""
        self.certificate = self.authority.for_host(self.name, kind)
        self.settings.tls = self._tls(self.certificate)
        return self.certificate

    def _tls(self, certificate: Certificate) -> ssl.SSLContext:
        return server_context(certificate, self.authority.file)

    def add_faults(self, faults: Iterable[Fault]) -> None:
        self.schedule.add(*faults)

    def power_on(self) -> None:
        """Start it: a new boot, without any shell of the last."""
        self._cancel_timer()
        if not self._may_start() or not self.before_power_on():
            return
        with self._lock:
            if not self._may_start():  # whoever was asked may have switched it on already
                return
            self.boots += 1
            self._http.open()
            self._https.open()
            self._on = True

    def _may_start(self) -> bool:
        return not self._on and not self._closed

    def power_off(self) -> None:
        """Cut its power: ports are closed, connections reset, shells and what runs in them are lost."""
        self._cancel_timer()
        with self._lock:
            if not self._on:
                return
            self._on = False
            self._http.close()
            self._https.close()
        self.drop_connections()
        self.before_power_off()
        self.shells.lose_all()

    def reboot(self, seconds: float = 0.0) -> None:
        """Restart it; its ports are closed for that long. Does not wait for more than its end."""
        self.power_off()
        if seconds <= 0:
            self.power_on()
            return
        with self._lock:
            self._timer = threading.Timer(seconds, self.power_on)
            self._timer.daemon = True
            self._timer.start()

    def restart_service(self) -> None:
        """Restart WinRM, as an update of it does: shells and connections are lost, and nothing else."""
        with self._lock:
            if not self._on:
                return
            self._http.close()
            self._https.close()
        self.drop_connections()
        self.shells.lose_all()
        with self._lock:
            if self._on:
                self._http.open()
                self._https.open()

    def _cancel_timer(self) -> None:
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def drop_connections(self, *, reset: bool = True) -> None:
        """End all connections; shells stay."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.end(reset=reset)

    def close(self) -> None:
        """Turn it off for good."""
        self._closed = True
        self.power_off()
        self._http.give_up()
        self._https.give_up()

    def __enter__(self) -> Self:
        self.power_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self, raw: socket.socket, scheme: str) -> None:
        connection = Connection(self.settings, raw, scheme)
        with self._lock:
            on = self._on
            if on:
                self.connected += 1
                self._connections.add(connection)
        if not on:
            connection.end(reset=True)
            raw.close()
            return
        try:
            connection.serve()
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _happen(self, fault: Fault) -> None:
        """What a fault does to the machine, whatever it does to an answer."""
        match fault.what:
            case What.POWER_LOSS:
                self.power_off()
            case What.REBOOT:
                self.reboot(fault.seconds)
            case What.SERVICE_RESTART:
                self.restart_service()
            case What.OTHER_CERTIFICATE:
                self.show("self-signed")
