"""HKLM:\\ as the real provider behaves: what it returns, and its errors."""

import pytest

from tests.lab.windows.machine import WindowsMachine
from tests.lab.windows.running import MakeMachine, run
from tests.lab.windows.scenario import Scenario


def test_values_and_their_types(make_machine: MakeMachine) -> None:
    machine = make_machine(Scenario(registry={r"SOFTWARE\Some": {"N": -1, "S": "text", "M": ["a", "b"]}}))
    script = r"""
    $key = Get-Item -LiteralPath HKLM:\SOFTWARE\some
    foreach ($name in $key.GetValueNames()) { "$name $($key.GetValueKind($name)) $($key.GetValue($name))" }
    (Get-ItemProperty -LiteralPath HKLM:\SOFTWARE\Some).M.Count; (Get-ItemPropertyValue HKLM:\SOFTWARE\Some -Name N)
    $key.GetValue('Nope', 'other'); $null -eq $key.GetValue('Nope'); "$($key.Property)"; $key.Name
    [void](New-ItemProperty -LiteralPath HKLM:\SOFTWARE\Some -Name Q -Value 5000000000 -PropertyType QWord)
    Set-ItemProperty -LiteralPath HKLM:\SOFTWARE\Some -Name D -Value 7 -Type DWord
    $again = Get-ItemProperty -Path HKLM:\SOFTWARE\Some -Name Q, D; "$($again.Q) $($again.D)"
    (Get-ChildItem -LiteralPath HKLM:\SOFTWARE | ForEach-Object { $_.PSChildName }) -join ','
    """
    assert run(machine, script) == [
        "N DWord -1",
        "S String text",
        "M MultiString a b",
        "2",
        "-1",
        "other",
        "True",
        "N S M",
        r"HKEY_LOCAL_MACHINE\SOFTWARE\some",
        "5000000000 7",
        "Microsoft,Policies,Some",
    ]


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (r"Get-Item HKLM:\Nope", "PathNotFound,Microsoft.PowerShell.Commands.GetItemCommand"),
        (r"Get-ItemProperty HKLM:\Nope", "PathNotFound,Microsoft.PowerShell.Commands.GetItemPropertyCommand"),
        (
            r"Get-ItemProperty HKLM:\SOFTWARE\Microsoft -Name Nope",
            "System.Management.Automation.PSArgumentException,Microsoft.PowerShell.Commands.GetItemPropertyCommand",
        ),
        (r"New-Item HKLM:\SOFTWARE", "System.IO.IOException,Microsoft.PowerShell.Commands.NewItemCommand"),
        (r"New-Item HKLM:\SOFTWARE\a\b", "System.ArgumentException,Microsoft.PowerShell.Commands.NewItemCommand"),
        (r"Remove-Item HKLM:\Nope", "PathNotFound,Microsoft.PowerShell.Commands.RemoveItemCommand"),
        (
            r"Remove-ItemProperty HKLM:\SOFTWARE -Name Nope",
            "System.Management.Automation.PSArgumentException,Microsoft.PowerShell.Commands.RemoveItemPropertyCommand",
        ),
    ],
)
def test_errors_are_the_real_ones(shared_machine: WindowsMachine, command: str, error: str) -> None:
    assert run(shared_machine, f"try {{ {command} }} catch {{ $_.FullyQualifiedErrorId }}") == [error]


def test_a_key_that_may_not_be_read_exists(make_machine: MakeMachine) -> None:
    machine = make_machine(Scenario(registry={r"SOFTWARE\Some": {}}, denied_keys=[r"SOFTWARE\Some"]))
    read = r"try { Get-Item HKLM:\SOFTWARE\Some } catch { $_.FullyQualifiedErrorId }"
    error = "System.Security.SecurityException,Microsoft.PowerShell.Commands.GetItemCommand"
    assert run(machine, rf"Test-Path -LiteralPath HKLM:\SOFTWARE\Some; {read}") == ["True", error]


def test_forcing_a_key_that_exists_empties_it(machine: WindowsMachine) -> None:
    script = r"""
    [void](New-Item -Path HKLM:\SOFTWARE\a\b -Force); Set-ItemProperty HKLM:\SOFTWARE\a -Name X -Value 1
    [void](New-Item -Path HKLM:\SOFTWARE\a -Force); (Get-Item HKLM:\SOFTWARE\a).ValueCount; Test-Path HKLM:\SOFTWARE\a\b
    """
    assert run(machine, script) == ["0", "False"]


def test_a_volatile_key_is_kept_if_it_exists_and_has_no_stable_keys_below(machine: WindowsMachine) -> None:
    script = r"""
    function New-FpVolatileKey { throw 'the real one' }
    New-FpVolatileKey -SubKey 'SOFTWARE\FleetPatch\Boot'
    Set-ItemProperty -LiteralPath HKLM:\SOFTWARE\FleetPatch\Boot -Name Id -Value x
    New-FpVolatileKey 'SOFTWARE\FleetPatch\Boot'; (Get-Item HKLM:\SOFTWARE\FleetPatch\Boot).GetValue('Id')
    try { New-Item HKLM:\SOFTWARE\FleetPatch\Boot\Stable } catch { $_.Exception.Message }
    """
    assert run(machine, script) == ["x", "Cannot create a stable subkey under a volatile parent key."]
    assert machine.read_state()["registry"][r"SOFTWARE\FleetPatch\Boot"]["volatile"] is True
