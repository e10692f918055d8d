"""Azure's configurations: Microsoft's own examples mean the same here, and nothing is dropped in silence."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments.azure.converter import AzureImport, convert_azure_document
from deployments.azure.file_import import render_yaml
from deployments.configuration.loader import load_configurations
from flows.request.patch_request import PatchRequest
from inventory.errors import InventoryError
from tasks.domain.states import Classification, RebootPolicy
from tasks.rules.calendar.schedule import iterate_occurrences
from tests.unit.config.folder import TODAY, Folder, wall

EXAMPLES = Path(__file__).parents[2] / "data" / "configurations" / "azure"


def read(name: str, scope: str | None = None) -> AzureImport:
    return convert_azure_document(json.loads((EXAMPLES / name).read_text()), Path(name).stem, scope)


def requests(folder: Folder, imported: AzureImport) -> dict[str, PatchRequest]:
    """Write what was imported as people get it, and load it as theirs is loaded."""
    path = folder.write({"azure.yaml": render_yaml(imported.configurations, imported.notes)})
    return {one.name: one.build_request() for one in load_configurations(path, TODAY).all_configurations}


def starts(folder: Folder, imported: AzureImport, count: int) -> list[datetime]:
    path = folder.write({"azure.yaml": render_yaml(imported.configurations, imported.notes)})
    one = load_configurations(path, TODAY).all_configurations[0]
    return [
        w.start
        for w in iterate_occurrences(one.build_schedule(one.zone), datetime(2020, 1, 1, tzinfo=UTC), limit=count)
    ]


def test_windows_guests(folder: Folder) -> None:
    imported = read("guest-windows.json", "env=prod")
    (asked,) = requests(folder, imported).values()
    assert asked.configuration == "configuration1"
    assert asked.scope == "env=prod,os=windows"
    assert asked.updates.classifications == [Classification.SECURITY]
    assert (asked.updates.include, asked.updates.exclude) == (["KB123456"], ["KB234567"])
    assert not asked.updates.exclude_requiring_reboot
    assert asked.reboot is RebootPolicy.ALWAYS
    assert (asked.window.minutes, asked.window.zone) == (300, "America/Los_Angeles")
    assert starts(folder, imported, 3) == [datetime(2020, 4, 30, 15, tzinfo=UTC), datetime(2020, 5, 5, 15, tzinfo=UTC),
                                           datetime(2020, 5, 10, 15, tzinfo=UTC)]  # fmt: skip
    assert imported.notes == []


def test_linux_guests(folder: Folder) -> None:
    (asked,) = requests(folder, read("guest-linux.json", "env=prod or web")).values()
    assert asked.scope == "env=prod,os=linux or web,os=linux"
    assert asked.updates.classifications == [Classification.CRITICAL]
    assert (asked.updates.include, asked.updates.exclude) == (["binutils", "bin"], ["apt", "http"])


def test_other_updates_for_each_system_make_two(folder: Folder) -> None:
    imported = read("TestAzureInGuestAdv2.json", "*")
    asked = requests(folder, imported)
    assert {name: each.scope for name, each in asked.items()} == {
        "testazureinguestadv2-linux": "os=linux", "testazureinguestadv2-windows": "os=windows",
    }  # fmt: skip
    linux, windows = asked.values()
    assert linux.updates.classifications == [Classification.OTHER]
    assert windows.updates.classifications == [
        Classification.SECURITY, Classification.CRITICAL, Classification.UPDATE_ROLLUP,
    ]  # fmt: skip
    assert starts(folder, imported, 2) == [
        datetime(2021, 8, 20, 19, 48, tzinfo=UTC),
        datetime(2021, 8, 21, 19, 48, tzinfo=UTC),
    ]
    assert any("becomes two" in note for note in imported.notes)
    assert load_configurations(folder.path, TODAY).all_configurations[0].form.window.expires == wall("2221-05-19 03:30")


def test_what_az_prints(folder: Folder) -> None:
    imported = read("az-flat.json", "all")
    asked = requests(folder, imported)
    assert list(asked) == ["myconfig-linux", "myconfig-windows"]
    assert asked["myconfig-windows"].updates.include == asked["myconfig-windows"].updates.exclude == ["KB123456"]
    assert load_configurations(folder.path, TODAY).all_configurations[0].tags == ("cost=42",)
    assert any("'team=linux ops' can't be imported" in note for note in imported.notes)
    assert starts(folder, imported, 2)[1] == datetime(2023, 1, 19, 15, tzinfo=UTC)


def test_what_is_not_about_guests_is_left_out_and_said() -> None:
    imported = read("list.json")
    assert imported.configurations == []
    assert imported.notes == [
        "configuration1: left out: OSImage is not about updates inside of machines (InGuestPatch)"
    ]


@pytest.mark.parametrize("scope", ["Host", "host"])
def test_what_is_about_hosts_holds_updates_for_35_days(folder: Folder, scope: str) -> None:
    imported = convert_azure_document(azure(maintenanceScope=scope, installPatches=None), "x", "group=kvm")
    (asked,) = requests(folder, imported).values()
    assert asked.maintenance is not None
    assert timedelta(minutes=asked.maintenance.hold_minutes) == timedelta(days=35)
    assert (asked.scope, asked.reboot) == ("group=kvm", RebootPolicy.NEVER)
    assert imported.notes == [
        "x: it is about Azure's hosts: here it holds updates of the machines in `scope` for 35 days, without reboots",
        "x: it selects no updates; the import selects Critical and Security",
    ]


def test_without_a_scope_nothing_is_switched_on(folder: Folder) -> None:
    imported = read("guest-linux.json")
    assert imported.configurations[0]["enabled"] is False
    assert "configuration assignments" in imported.notes[0]
    requests(folder, imported)


def azure(**properties: Any) -> dict[str, Any]:
    window = {"startDateTime": "2026-12-01 10:00", "duration": "02:00", "timeZone": "UTC", "recurEvery": "Day"}
    patches = {"linuxParameters": {"classificationsToInclude": ["Critical"]}}
    return {
        "name": "x",
        "properties": {
            "maintenanceScope": "InGuestPatch",
            "maintenanceWindow": window,
            "installPatches": patches,
            **properties,
        },
    }


def test_the_same_for_both_systems_stays_one(folder: Folder) -> None:
    same = {"classificationsToInclude": ["Critical"]}
    imported = convert_azure_document(
        azure(installPatches={"linuxParameters": same, "windowsParameters": same}), "x", "*"
    )
    (asked,) = requests(folder, imported).values()
    assert (asked.scope, asked.reboot) == ("*", RebootPolicy.IF_REQUIRED)
    assert imported.notes == []


@pytest.mark.parametrize(
    ("properties", "note"),
    [
        ({"installPatches": {"tasks": {"preTasks": [{"source": "x"}]}}}, "tasks can't be imported; write hooks"),
        (
            {"installPatches": {"linuxParameters": {"maintenanceRunId": "7"}}},
            "maintenanceRunId can't be imported: '7'",
        ),
        ({"overrides": [{"endDateTime": "x"}]}, "overrides can't be imported"),
        (
            {"extensionProperties": {"InGuestPatchMode": "Platform"}},
            "InGuestPatchMode can't be imported: 'Platform'",
        ),
        ({"installPatches": None}, "it selects no updates; the import selects Critical and Security"),
        ({"somethingNew": 5}, "somethingNew can't be imported: 5"),
        ({"maintenanceWindow": {"startDateTime": "2026-12-01 10:00"}}, "it has no duration; 03:55"),
    ],
)
def test_what_cannot_be_carried_over_is_said(folder: Folder, properties: dict[str, Any], note: str) -> None:
    imported = convert_azure_document(azure(**properties), "x", "*")
    assert any(note in each for each in imported.notes), imported.notes
    requests(folder, imported)


def test_versions_are_not_looked_at_in_what_is_excluded(folder: Folder) -> None:
    masks = {"packageNameMasksToExclude": ["libc=1.0", "kernel*"], "packageNameMasksToInclude": ["libc=1.0"]}
    (asked,) = requests(
        folder, convert_azure_document(azure(installPatches={"linuxParameters": masks}), "x", "*")
    ).values()
    assert (asked.updates.exclude, asked.updates.include) == (["libc", "kernel*"], ["libc=1.0"])


def test_kbs_that_need_a_reboot(folder: Folder) -> None:
    wanted = {"kbNumbersToInclude": ["123456"], "excludeKbsRequiringReboot": True}
    (asked,) = requests(
        folder, convert_azure_document(azure(installPatches={"windowsParameters": wanted}), "x", "*")
    ).values()
    assert asked.updates.include == ["KB123456"]
    assert asked.updates.exclude_requiring_reboot


DOCUMENTED = (
    "Day/3Days/3Weeks/Week Saturday, Sunday/Month/2Months/Month day23, day24/Month Last Sunday/Month Fourth Monday/"
    "Month Last Sunday Offset-3/Month Third Sunday Offset6"
)


@pytest.mark.parametrize("recurs", DOCUMENTED.split("/"))
def test_every_recurrence_that_azure_documents(folder: Folder, recurs: str) -> None:
    window = {"startDateTime": "2026-12-01 10:00", "duration": "02:00", "timeZone": "UTC", "recurEvery": recurs}
    assert len(starts(folder, convert_azure_document(azure(maintenanceWindow=window), "x", "*"), 3)) == 3


def test_templates_and_lists(folder: Folder) -> None:
    kind = "Microsoft.Maintenance/maintenanceConfigurations"
    template = {"resources": [{"type": kind, **azure()}, {"type": "Microsoft.Compute/virtualMachines", "name": "vm"}]}
    imported = convert_azure_document([template, azure()], "stem", "*")
    assert list(requests(folder, imported)) == ["x", "x-2"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "no maintenance configuration in it"),
        ([], "no maintenance configuration in it"),
        ("text", "no maintenance configuration in it"),
        (azure(maintenanceWindow={"duration": "02:00"}), "no startDateTime"),
        (azure(maintenanceWindow={"startDateTime": "soon"}), "no time of the calendar"),
        (azure(maintenanceWindow={"startDateTime": "[parameters('start')]"}), "an expression of an ARM template"),
        (azure(maintenanceWindow={"startDateTime": "2026-12-01 10:00", "timeZone": "Mars"}), "'Mars' is no time zone"),
        (azure(installPatches={"rebootSetting": "Perhaps"}), "rebootSetting 'Perhaps' is not known"),
    ],
)
def test_what_makes_no_sense(document: object, words: str) -> None:
    with pytest.raises(InventoryError) as caught:
        convert_azure_document(document, "stem")
    assert words in str(caught.value)
    assert caught.value.hint


def window_of(**changed: str) -> tuple[dict[str, Any], list[str]]:
    """Return the window that was written, and the notes."""
    window = {"startDateTime": "2026-12-01 10:00", "duration": "02:00", "timeZone": "Pacific Standard Time"} | changed
    imported = convert_azure_document(azure(maintenanceWindow=window), "x", "*")
    made: Any = imported.configurations[0]["window"]
    return made, imported.notes


@pytest.mark.parametrize("key", ["startDateTime", "expirationDateTime"])
@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-12-10 08:00", "2026-12-10 08:00"),
        ("2026-12-10T08:00", "2026-12-10 08:00"),
        ("2026-12-10T08:00:00", "2026-12-10 08:00"),
        ("2026-12-10T08:00:00.0000000", "2026-12-10 08:00"),
        ("2026-12-10", "2026-12-10 00:00"),
        ("2026-12-10T08:00:00Z", "2026-12-10 00:00"),
        ("2026-12-10T08:00:00.0000000Z", "2026-12-10 00:00"),
        ("2026-12-10 08:00 -08:00", "2026-12-10 08:00"),
        ("2026-12-10T08:00:00+01:00", "2026-12-09 23:00"),
        ("2026-12-10T08:00:00+0100", "2026-12-09 23:00"),
    ],
)
def test_a_time_is_the_instant_that_azure_means(key: str, text: str, meant: str) -> None:
    made, notes = window_of(**{key: text})
    assert made["start" if key == "startDateTime" else "expires"] == meant
    has_offset = text != "2026-12-10" and ("Z" in text or "+" in text or " -" in text)
    assert [note for note in notes if key in note] == (
        [f"x: {key} {text} has an offset; {meant} in America/Los_Angeles was written"] if has_offset else []
    )


def test_an_end_with_seconds_takes_no_window_away() -> None:
    assert window_of(expirationDateTime="2026-12-31 23:59:59")[0]["expires"] == "2027-01-01 00:00"
    assert "expires" not in window_of(expirationDateTime="9999-12-31T23:59:59Z")[0]


@pytest.mark.parametrize(
    "text", ["2026-12-10T08:00:30", "2026-12-10T08:00 CET", "2026-12-10T08:00+25:00", "0001-01-01T00:00Z", "٢٠٢٦-12-10"]
)
def test_a_start_that_can_not_be_meant(text: str) -> None:
    with pytest.raises(InventoryError, match=r"^x: startDateTime: ") as caught:
        window_of(startDateTime=text)
    assert caught.value.hint


def test_no_zone_of_azures_is_each_machines_own() -> None:
    with pytest.raises(InventoryError, match="'machine' is no time zone"):
        window_of(timeZone="machine")


@pytest.mark.parametrize("scope", ["InGuestPatch", "inGuestPatch", "inguestpatch", "INGUESTPATCH"])
def test_the_kind_is_read_in_any_case(scope: str) -> None:
    imported = convert_azure_document(azure(maintenanceScope=scope), "x", "*")
    assert len(imported.configurations) == 1
    assert imported.notes == []


@pytest.mark.parametrize("name", ["refresh", "On Demand", "assess"])
def test_names_that_are_reserved_are_not_written(folder: Folder, name: str) -> None:
    imported = convert_azure_document({**azure(), "name": name}, "x", "*")
    assert len(requests(folder, imported)) == 1
    assert any("its name here is" in note for note in imported.notes)
