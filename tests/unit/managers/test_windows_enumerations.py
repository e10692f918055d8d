"""Numbers that stand for words of Windows, in scripts and in Python, are those of Microsoft's metadata."""

import re
from pathlib import Path

import pytest

from tasks.machines.managers.windows_update.assessment import SUCCEEDED_WITH_ERRORS
from tasks.machines.managers.windows_update.update_history import _FAILED, _FINAL_RESULTS
from tests.lab.windows.com_interfaces import find_enumeration

ROOT = Path(__file__).parents[3]
TASKS = ("tasks/machines/scripts/windows/task_start.ps1",)
STEPS = "tasks/machines/managers/windows_update/scripts/wua_steps.ps1"
NUMBERS = [
    (TASKS, r"Principal\.LogonType = (\d+)", "TASK_LOGON_TYPE", {"TASK_LOGON_SERVICE_ACCOUNT"}),
    (TASKS, r"RegisterTaskDefinition\([^\n]*, (\d+)\)", "TASK_LOGON_TYPE", {"TASK_LOGON_SERVICE_ACCOUNT"}),
    (TASKS, r"RegisterTaskDefinition\([^\n]*efinition, (\d+), ", "TASK_CREATION", {"TASK_CREATE_OR_UPDATE"}),
    (TASKS, r"Principal\.RunLevel = (\d+)", "TASK_RUNLEVEL_TYPE", {"TASK_RUNLEVEL_HIGHEST"}),
    (TASKS, r"Actions\.Create\((\d+)\)", "TASK_ACTION_TYPE", {"TASK_ACTION_EXEC"}),
    (TASKS, r"MultipleInstances = (\d+)", "TASK_INSTANCES_POLICY", {"TASK_INSTANCES_IGNORE_NEW"}),
    (TASKS, r"Triggers\.Create\((\d+)\)", "TASK_TRIGGER_TYPE2", {"TASK_TRIGGER_TIME"}),
    (
        (STEPS,),
        r"ResultCode -eq (\d+)",
        "OperationResultCode",
        {"orcSucceeded", "orcSucceededWithErrors", "orcAborted"},
    ),
]


@pytest.mark.parametrize(("scripts", "pattern", "enumeration", "names"), NUMBERS, ids=[row[1] for row in NUMBERS])
def test_numbers_in_scripts(scripts: tuple[str, ...], pattern: str, enumeration: str, names: set[str]) -> None:
    values = find_enumeration(enumeration)
    for script in scripts:
        found = {int(number) for number in re.findall(pattern, (ROOT / script).read_text(encoding="utf-8"))}
        assert found == {values[name] for name in names}, script


def test_numbers_in_python() -> None:
    results = find_enumeration("OperationResultCode")
    assert results["orcSucceededWithErrors"] == SUCCEEDED_WITH_ERRORS
    assert results["orcFailed"] == _FAILED
    assert set(results.values()) - {results["orcNotStarted"], results["orcInProgress"]} == _FINAL_RESULTS
