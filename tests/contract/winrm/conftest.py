"""A Windows host on loopback for each test."""

from collections.abc import Iterator

import pytest

from tasks.machines.transport import tcp_connection
from tests.contract.winrm.subjects import GUEST, PowerShellTable
from tests.lab.windows.certificates import Authority
from tests.lab.windows.shells import Quotas
from tests.lab.windows.windows_host import ADMINISTRATOR, Options, WindowsHost


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def table() -> Iterator[PowerShellTable]:
    it = PowerShellTable()
    yield it
    for gate in it.gates.values():
        gate.set()


@pytest.fixture
def host(tmp_path, authority, table) -> Iterator[WindowsHost]:
    with WindowsHost(
        "WIN1", tmp_path, table, authority=authority, options=Options([ADMINISTRATOR, GUEST], quotas=Quotas(shells=40))
    ) as it:
        yield it


@pytest.fixture(autouse=True)
def _without_waits(monkeypatch):
    monkeypatch.setattr(tcp_connection, "RETRY_DELAYS_SECONDS", (0.02, 0.02))
