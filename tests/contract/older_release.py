"""What an older release left (tests/data/older_release): its rows in a database, its objects in Prefect."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import MetaData, insert, text

from deployments.sync.actual_state import build_limit_name, normalize_document, to_deployment
from deployments.sync.model import Automation, Deployment, DeploymentSet, WorkPool
from tasks.records.setup import run_migrations
from tasks.records.storage.database import Database, enable_wal
from tasks.records.storage.url import find_records_url
from tests.ci import tree

DATA = tree.TOP / "tests" / "data" / "older_release"
FORMER_FOLDER = "/srv/fleet"
REVISION = "0004"
FAILED_RUN = "20261122-035610-368b97"
INTERRUPTED_RUN = "20261122-035911-ba9cdc"
WAITING_RUN = "20261122-035823-a46b07"
NOW = datetime(2026, 11, 22, 4, 5, tzinfo=UTC)
"""Some minutes after the older release's processes were killed; windows of the interrupted runs are open."""


def load_json(name: str) -> Any:
    """Return one of its files; paths in it are paths of the data's folder."""
    return json.loads((DATA / name).read_text().replace(FORMER_FOLDER, str(DATA)))


def fill_records(url: str, rows_by_table: dict[str, list[dict[str, Any]]] | None = None) -> None:
    """Make a database of the older release's revision, with its rows, or with other rows of that revision."""
    rows_by_table = load_json("records.json") if rows_by_table is None else rows_by_table
    database = Database(find_records_url(url))
    if database.is_sqlite:
        enable_wal(database)
    with database.begin_write("prepare") as connection:
        run_migrations(connection, REVISION)
        tables = MetaData()
        tables.reflect(connection)
        for table in tables.sorted_tables:
            rows = rows_by_table.pop(table.name, [])
            if not rows:
                continue
            columns = table.columns
            values = [{key: _to_value(value, str(columns[key].type)) for key, value in row.items()} for row in rows]
            connection.execute(insert(table), values)
            if "number" in columns and not database.is_sqlite:
                sequence = f"SELECT setval(pg_get_serial_sequence('{table.name}', 'number'), 10000)"
                connection.execute(text(sequence))
        if rows_by_table:
            raise AssertionError(f"no such tables at {REVISION}: {sorted(rows_by_table)}")
    database.close()


def _to_value(value: object, column_type: str) -> object:
    if isinstance(value, dict):
        return bytes.fromhex(value["hex"]) if "hex" in value else base64.b64decode(value["base64"])
    if isinstance(value, str) and column_type.startswith("TIMESTAMP"):
        return datetime.fromisoformat(f"{value}+00:00")
    if isinstance(value, str) and column_type.startswith("DATETIME"):
        return datetime.fromisoformat(value)
    return bool(value) if column_type == "BOOLEAN" and value is not None else value


def load_forms() -> dict[str, dict[str, Any]]:
    """Return the forms by flow."""
    return {name.partition("/")[0]: form for name, form in load_json("prefect_forms.json").items()}


def load_prefect_objects() -> DeploymentSet:
    """Return its objects in Prefect as a server would tell of them."""
    objects, forms = load_json("prefect_objects.json"), load_forms()
    deployments = tuple(_to_deployment(each, forms.get(each["flow"], {})) for each in objects["deployments"])
    automations = tuple(
        Automation(
            name=each["name"],
            description=each["description"],
            trigger=normalize_document(each["trigger"]),
            actions=tuple(normalize_document(action) for action in each["actions"]),
            enabled=each["enabled"],
        )
        for each in objects["automations"]
    )
    pools = tuple(WorkPool(each["name"]) for each in objects["work_pools"] if each["type"] == "process")
    return DeploymentSet(deployments, automations, pools)


def _to_deployment(stored: Mapping[str, Any], form: Mapping[str, Any]) -> Deployment:
    limit = {"limit": 1, "active": True, "slot_decay_per_second": 0.0, "name": build_limit_name("1")}
    answer = {
        **stored,
        "id": "1",
        "parameter_openapi_schema": dict(form),
        "schedules": [{"max_scheduled_runs": None, **line} for line in stored["schedules"]],
        "global_concurrency_limit": limit if stored["name"] != "on-demand" else None,
        "concurrency_options": {"collision_strategy": "CANCEL_NEW"},
        "work_pool_name": "fleetpatch",
        "work_queue_name": "default",
        "work_queue_id": "queue",
        "infrastructure_document_id": None,
        "storage_document_id": None,
        "job_variables": {},
    }
    return to_deployment(answer, stored["flow"], "queue")


def list_key_paths(document: object, path: str = "") -> set[str]:
    """Return the path of every key in a document; items of a list share one path."""
    if isinstance(document, Mapping):
        return {
            inner
            for key, value in document.items()
            for inner in {f"{path}.{key}", *list_key_paths(value, f"{path}.{key}")}
        }
    if isinstance(document, list):
        return {inner for item in document for inner in list_key_paths(item, f"{path}[]")}
    return set()


def list_form_keys(form: Mapping[str, Any]) -> set[str]:
    """Return the path of every field that a form offers, through its definitions, whatever these are called."""
    keys: set[str] = set()
    definitions = form.get("definitions", {}) | form.get("$defs", {})

    def visit(schema: Mapping[str, Any], path: str, parents: tuple[str, ...]) -> None:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            if name not in parents:
                visit(definitions[name], path, (*parents, name))
        for part in (*schema.get("allOf", ()), *schema.get("anyOf", ()), *schema.get("oneOf", ())):
            visit(part, path, parents)
        if isinstance(schema.get("items"), Mapping):
            visit(schema["items"], f"{path}[]", parents)
        for key, inner in schema.get("properties", {}).items():
            keys.add(f"{path}.{key}")
            visit(inner, f"{path}.{key}", parents)

    visit(form, "", ())
    return keys
