"""A whole Windows machine of the tests: a real PowerShell, reached by pywinrm; its power and its network agree."""

import base64
import contextlib
import time

import pytest
import requests
from winrm.exceptions import WSManFaultError

from tests.lab.windows.certificates import Authority
from tests.lab.windows.fault_schedule import Fault, What
from tests.lab.windows.powershell_process import find_powershell
from tests.lab.windows.served_machine import ServedMachine
from tests.support.winrm_client import client, run

pytestmark = pytest.mark.skipif(find_powershell() is None, reason="PowerShell (pwsh) is not on PATH")
SHUTDOWN = "& (Join-Path -Path $env:SystemRoot -ChildPath 'System32\\shutdown.exe') /r /t 0; exit $LASTEXITCODE"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def served(tmp_path, authority):
    with ServedMachine(tmp_path, authority=authority) as it:
        yield it


def powershell(script: str) -> str:
    return f"powershell.exe -NoProfile -EncodedCommand {base64.b64encode(script.encode('utf-16-le')).decode()}"


def wait_until_on(served: ServedMachine, boot: int) -> None:
    served.machine.wait_for_boot(boot)
    while not served.host.is_on:
        time.sleep(0.01)


def test_a_script_gets_its_input_and_its_output_errors_and_exit_code_come_back(served):
    script = '$read = [System.Console]::In.ReadToEnd(); "$($read.Length) on $env:COMPUTERNAME"; exit 4'
    output = run(client(served.host), powershell(script), b"x" * 300_000)
    assert (output.stdout, output.exit_code) == (b"300000 on WINHOST\r\n", 4)
    assert output.stderr.startswith(b"#< CLIXML\r\n")


def test_a_restart_ordered_on_the_machine_closes_its_ports_and_loses_its_shells(served):
    protocol = client(served.host)
    shell = protocol.open_shell()
    # The machine may go off before the answer is out, and be on again before the client closes its shell.
    with contextlib.suppress(requests.exceptions.RequestException, WSManFaultError):
        assert run(client(served.host), powershell(SHUTDOWN), b"").exit_code == 0
    wait_until_on(served, 2)
    assert served.host.boots == 2
    again = client(served.host)
    with pytest.raises(WSManFaultError, match="shell was not found"):
        again.run_command(shell, "hostname")
    assert run(client(served.host), powershell("'up'"), b"").stdout == b"up\r\n"
    for each in (protocol, again):
        each.transport.close_session()


def test_a_loss_of_power_seen_from_the_network_ends_what_runs_on_the_machine(served):
    served.host.schedule.add(Fault("Receive", What.REBOOT, seconds=0.1))
    with pytest.raises(requests.exceptions.ConnectionError):
        run(client(served.host), powershell("Start-Sleep -Seconds 600"), b"")
    wait_until_on(served, 2)
    assert (served.host.boots, served.machine.boot_number) == (2, 2)
    assert run(client(served.host), powershell("'up'"), b"").stdout == b"up\r\n"


def test_a_command_that_is_told_to_terminate_ends_on_the_machine(served):
    protocol = client(served.host)
    shell = protocol.open_shell()
    command = protocol.run_command(shell, powershell("'begun'; Start-Sleep -Seconds 600"), console_mode_stdin=False)
    protocol.send_command_input(shell, command, b"", end=True)
    seen = b""
    while b"begun" not in seen:
        seen += protocol.get_command_output_raw(shell, command)[0]
    running = served.host.shells.open[0].commands[command]
    protocol.cleanup_command(shell, command)
    while running.running:
        time.sleep(0.01)
    protocol.close_shell(shell)
