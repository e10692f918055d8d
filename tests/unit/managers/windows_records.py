"""Records of the scripts for Windows, as tests need them. tests/data/windows_update/README.md has their sources."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tasks.domain.protocols.transport import ScriptResult

SECURITY = "0fa1201d-4330-4fa8-8ae9-b877473b6441"
UPGRADE = "3689bdc8-b205-4af4-8d4a-a63924c5e9d5"
UPDATES = "cd5ffd1e-e932-4e3a-bf74-18bf0b1bbd83"
DEFINITION = "e0789628-ce08-4437-be74-2495b842f43b"
DRIVER = "ebfc1fc5-71a4-4f7b-9aca-3b9a503104a0"
PRODUCT = "b3c75dc1-155f-4be4-b015-3f1a91758e52"
NOW = 1_795_000_000  # 2026-11-18 11:06:40 UTC, a Wednesday
ENROLLED = {
    "kind": "hotpatch",
    "enrolled": "Hotpatch Enrollment Package",
    "vbs_configured": 1,
    "vbs_status": 2,
    "secure_boot": 1,
    "table_size": 4096,
    "licence": None,
    "arc": False,
}


def guid(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


def update_record(number: int = 1, **changes: Any) -> dict[str, Any]:
    record = {
        "kind": "update",
        "id": guid(number),
        "revision": 200,
        "title": f"2026-11 Update for Windows Server 2022 (KB50{number:05})",
        "kbs": [f"50{number:05}"],
        "categories": [SECURITY, PRODUCT],
        "severity": "Critical",
        "cves": [],
        "bulletins": [],
        "superseded": [],
        "type": 1,
        "installed": False,
        "hidden": False,
        "downloaded": False,
        "browse_only": False,
        "reboot_required": False,
        "eula_accepted": True,
        "max_bytes": 1_000_000,
        "published": NOW - 86_400,
        "impact": 0,
        "reboot_behavior": 0,
        "user_input": False,
    }
    return record | changes


def history_record(number: int = 1, **changes: Any) -> dict[str, Any]:
    record = {
        "kind": "history",
        "id": guid(number),
        "revision": 200,
        "at": NOW - 3_600,
        "operation": 1,
        "result_code": 2,
        "hresult": 0,
        "title": "an update",
        "client": "fleetpatch",
    }
    return record | changes


def search_record(**changes: Any) -> dict[str, Any]:
    return {"kind": "search", "online": True, "result_code": 2, "hresult": 0, "message": "", "denied": False} | changes


def system_record(**changes: Any) -> dict[str, Any]:
    record = {
        "kind": "system",
        "at": NOW,
        "offset_minutes": 0,
        "uptime": 86_400,
        "build": "20348",
        "ubr": 2700,
        "edition": "ServerDatacenter",
        "installation_type": "Server",
    }
    return record | changes


def policy_record(**values: str) -> dict[str, Any]:
    return {"kind": "policy", "values": values, "unread": []}


def running_record(moment: str = "2026-11-11") -> dict[str, Any]:
    """When the cumulative update that runs was installed, in UTC."""
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    return {"kind": "running_update", "at": int(at.timestamp())}


def assessment(*records: Mapping[str, Any], bare: Sequence[Mapping[str, Any]] | None = None) -> ScriptResult:
    """What wua_assess.ps1 gives: the records, after those that every healthy machine sends."""
    usual = bare
    if usual is None:
        usual = [system_record(), policy_record(), search_record(), {"kind": "reboot"}, running_record()]
    kinds = {record["kind"] for record in records}
    return ScriptResult((*(each for each in usual if each["kind"] not in kinds), *records), 0)
