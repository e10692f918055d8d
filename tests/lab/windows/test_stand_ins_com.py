"""The members of COM objects of the stand-ins are those of Microsoft's metadata, with values of the same kinds."""

import re

from tests.lab.windows.com_interfaces import Member, extends, find_members, is_enumeration
from tests.lab.windows.machine import WindowsMachine
from tests.lab.windows.powershell_process import SOURCES
from tests.lab.windows.running import run

MEMBERS = r"""
function Kind([type] $Type) {
    $com = @($Type.GetCustomAttributes([FleetPatch.StandIns.ComAttribute], $false))
    if ($com.Count) { $com[0].Interfaces -join ' ' } else { $Type.Name }
}
function Kinds($Parameters) { @(foreach ($each in $Parameters) { Kind $each.ParameterType }) -join ',' }
foreach ($type in [FleetPatch.StandIns.ComObject].Assembly.GetTypes()) {
    if (-not @($type.GetCustomAttributes([FleetPatch.StandIns.ComAttribute], $false)).Count) { continue }
    "$(Kind $type)|||"
    foreach ($member in $type.GetMembers('Public,Instance')) {
        if ($member.DeclaringType.Namespace -ne 'FleetPatch.StandIns' -or $member.Name -eq 'GetEnumerator') { continue }
        if ($member.MemberType -eq 'Property') {
            $access = if ($member.SetMethod -and $member.SetMethod.IsPublic) { '=' }
            "$(Kind $type)|$($member.Name)$access|$(Kind $member.PropertyType)|$(Kinds $member.GetIndexParameters())"
        } elseif ($member.MemberType -eq 'Method' -and -not $member.IsSpecialName) {
            "$(Kind $type)|$($member.Name)|$(Kind $member.ReturnType)|$(Kinds $member.GetParameters())"
        }
    }
}
"""
KINDS = {
    "": "Void",
    "BSTR": "String",
    "VARIANT_BOOL": "Boolean",
    "Int32": "Int32",
    "UInt32": "UInt32",
    "HRESULT": "Int32",
    "Double": "DateTime",
    "DECIMAL": "Decimal",
}
ANY_KIND = {"VARIANT", "IUnknown"}


def is_of_kind(documented: str, ours: str) -> bool:
    """Whether a type of the stand-ins is the documented one: its name in .NET, or the interfaces of a class."""
    if documented in ANY_KIND:
        return ours != "Void"
    if documented in KINDS:
        return KINDS[documented] == ours
    return ours == "Int32" if is_enumeration(documented) else any(extends(each, documented) for each in ours.split())


def find_fault(member: Member | None, name: str, result: str, parameters: list[str]) -> str:
    """Return how a member of a stand-in differs from the documented one; "" if it doesn't."""
    if member is None:
        return "it is not documented"
    documented, expected = member.get("parameters", []), member.get("get", member.get("returns"))
    if name.endswith("=") and not is_of_kind(member.get("put", "nothing"), result):
        return f"it can't be set to {result}"
    if expected is not None and not is_of_kind(expected, result):
        return f"it gives {result}, not {expected}"
    if len(documented) != len(parameters) or not all(map(is_of_kind, documented, parameters)):
        return f"it takes {parameters}, not {documented}"
    return ""


def test_classes_have_only_documented_members_with_values_of_the_documented_kinds(
    shared_machine: WindowsMachine,
) -> None:
    seen, faults = set(), []
    for line in run(shared_machine, MEMBERS):
        interfaces, name, result, parameters = line.split("|")
        seen.add(interfaces)
        member = find_members(interfaces.split()).get(name.rstrip("="))
        if name and (fault := find_fault(member, name, result, parameters.split(",") if parameters else [])):
            faults.append(f"{interfaces}.{name}: {fault}")
    assert faults == []
    assert len(seen) == len(
        set(re.findall(r"\[Com\(([^)]*)\)", "".join(path.read_text(encoding="utf-8") for path in SOURCES.glob("*.cs"))))
    )
