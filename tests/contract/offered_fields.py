"""Everything that Prefect's API lets anybody change on what `deploy` made, and what becomes of it: seen, or harmless.

A field that another release of Prefect adds is in no table, and a test says so, until somebody decides.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import actions, objects, schedules
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import AutomationCore
from pydantic import BaseModel, SecretStr

from deployments.configuration.prefect_names import ASSESSMENT_QUEUE

POOL, OTHER_POOL = "fields", "fields-other"
WINDOWS = ("web", "web-2", "web-3", "web-4")
"""Configurations that differ in nothing but their names: each is changed in another field at the same time."""
AUTOMATIONS = 2
"""So many automations of a fleet are changed at the same time; `deploy` makes at least these."""


@dataclass(frozen=True)
class Offered:
    """A server with one fleet's things on it.

    Attributes:
        number: which of the windows and automations is meant.
    """

    client: SyncPrefectClient
    number: int = 0

    @property
    def name(self) -> str:
        return f"patch-fleet/{WINDOWS[self.number]}"

    @property
    def deployment(self) -> DeploymentResponse:
        return self.client.read_deployment_by_name(self.name)

    @property
    def automation(self) -> Any:
        ours = [each for each in self.client.read_automations() if each.name.startswith("fleetpatch:fleet=fields:")]
        return sorted(ours, key=lambda each: each.name)[self.number]

    @property
    def limit(self) -> Any:
        return self.deployment.global_concurrency_limit

    def patch(self, path: str, value: Mapping[str, Any], **place: object) -> None:
        path_params = {key: str(each) for key, each in place.items()}
        self.client.request("PATCH", path, path_params=path_params, json=dict(value))  # type: ignore[arg-type]

    def on_deployment(self, value: Mapping[str, Any]) -> None:
        self.patch("/deployments/{id}", value, id=self.deployment.id)

    def on_schedule(self, value: Mapping[str, Any]) -> None:
        there = self.deployment
        path = "/deployments/{id}/schedules/{schedule_id}"
        self.patch(path, value, id=there.id, schedule_id=there.schedules[0].id)

    def on_pool(self, value: Mapping[str, Any]) -> None:
        self.patch("/work_pools/{name}", value, name=POOL)

    def on_queue(self, value: Mapping[str, Any]) -> None:
        self.patch("/work_queues/{id}", value, id=self.client.read_work_pool(POOL).default_queue_id)

    def on_assessments(self, value: Mapping[str, Any]) -> None:
        queue = self.client.read_work_queue_by_name(ASSESSMENT_QUEUE, work_pool_name=POOL)
        self.patch("/work_queues/{id}", value, id=queue.id)

    def on_limit(self, value: Mapping[str, Any]) -> None:
        self.patch("/v2/concurrency_limits/{id_or_name}", value, id_or_name=self.limit.id)

    def on_automation(self, value: Mapping[str, Any]) -> None:
        from prefect.server.events.schemas import automations as server_automations

        core = self.automation
        fields = set(server_automations.AutomationUpdate.model_fields)
        document = core.model_dump(mode="json", include=fields) | dict(value)
        self.client.request("PUT", "/automations/{id}", path_params={"id": core.id}, json=document)

    def on_flow(self, value: Mapping[str, Any]) -> None:
        self.patch("/flows/{id}", value, id=self.deployment.flow_id)

    def template(self, **properties: Any) -> dict[str, Any]:
        """A pool's template that says something of its own."""
        plain = {"command": {"type": "string"}, "env": {"type": "object"}}
        return {
            "job_configuration": {"command": "{{ command }}", "env": "{{ env }}"},
            "variables": {"type": "object", "properties": {**plain, **properties}},
        }

    def other_limit(self) -> str:
        known = self.client.create_global_concurrency_limit(
            actions.GlobalConcurrencyLimitCreate(name=f"shared-{self.deployment.updated}", limit=7)
        )
        return str(known)

    def other_pool(self) -> str:
        self.client.create_work_pool(actions.WorkPoolCreate(name=OTHER_POOL, type="process"), overwrite=True)
        return OTHER_POOL

    def block(self) -> str:
        made: Any = Secret(value=SecretStr("x"))
        return str(made.save("fields", overwrite=True, _sync=True))


Value = Callable[[Offered], Any]


@dataclass(frozen=True)
class Seen:
    """`--check` says so in these words, and `deploy` mends it."""

    words: str
    value: Any  # or a function that makes it
    beside: Mapping[str, Any] | None = None  # what has to be changed with it


@dataclass(frozen=True)
class Harmless:
    """It decides neither what is done, nor when, nor whether. Left as it is."""

    why: str
    value: Any


@dataclass(frozen=True)
class NotThere:
    """It can't be changed on what stands there."""

    why: str


Verdict = Seen | Harmless | NotThere

_RULE = {"rrule": "DTSTART:20261201T030000\nRRULE:FREQ=DAILY", "timezone": "UTC"}
_EVERY = {"interval": 3600, "anchor_date": "2026-12-01T00:00:00+00:00", "timezone": "UTC"}
_STEPS = [{"prefect.deployments.steps.set_working_directory": {"directory": "/tmp"}}]
_NOTHING = {"type": "do-nothing"}
_OWN_COMMAND: Value = lambda place: place.template(command={"type": "string", "default": "true"})  # noqa: E731
_OWN_PLACE: Value = lambda place: place.template(env={"type": "object", "default": {"LANG": "C"}})  # noqa: E731

DEPLOYMENT: Mapping[str, tuple[Verdict, ...]] = {
    "concurrency_limit": (Seen("at_once: 2 → 1", 2), Seen("at_once: nothing → 1", None)),
    "concurrency_options": (
        Seen("limit collision_strategy: ENQUEUE → CANCEL_NEW", {"collision_strategy": "ENQUEUE"}),
        Seen("limit grace_period_seconds: 90", {"collision_strategy": "CANCEL_NEW", "grace_period_seconds": 90}),
    ),
    "description": (Seen("description: mine →", "mine"),),
    "enforce_parameter_schema": (Seen("start enforce_parameter_schema: false → true", value=False),),
    "entrypoint": (Seen("entrypoint: other.flow →", "other.flow"),),
    "global_concurrency_limit_id": (Seen("limit own: false → true", Offered.other_limit),),
    "infrastructure_document_id": (Seen("start infrastructure_document_id", Offered.block),),
    "job_variables": (Seen("start job_variables.env", {"env": {"PATH": "/elsewhere"}}),),
    "parameter_openapi_schema": (Seen("form: ", {"type": "object", "properties": {}}),),
    "parameters": (Seen("parameters request.scope: * →", {"request": {"scope": "*"}}),),
    "path": (Seen("start path: /elsewhere", "/elsewhere"),),
    "paused": (Seen("paused: true → false", value=True),),
    "pull_steps": (Seen("start pull_steps", _STEPS),),
    "schedules": (Seen("schedule more: not ours", [{"schedule": _EVERY, "slug": "more", "active": True}]),),
    "storage_document_id": (Seen("start storage_document_id", Offered.block),),
    "tags": (Seen("tags", ["fleetpatch", "fleetpatch:fleet=fields", "mine"]),),
    "version": (Harmless("a label; nothing reads it", "7"),),
    "version_info": (Harmless("a label; nothing reads it", {"type": "mine", "version": "7"}),),
    "work_pool_name": (Seen(f"pool: {OTHER_POOL} → {POOL}", Offered.other_pool),),
    "work_queue_name": (Seen("queue: mine", "mine", {"work_pool_name": POOL}),),
}
SCHEDULE: Mapping[str, tuple[Verdict, ...]] = {
    "active": (Seen("active false → true", value=False),),
    "max_scheduled_runs": (Seen("most 1 → nothing", 1),),
    "parameters": (Seen('parameters {"request"', {"request": {"scope": "*"}}),),
    "replaces": (NotThere("names another schedule when a whole deployment is replaced; nothing is kept of it"),),
    "schedule": (
        Seen("rule ", _RULE),
        Seen("every 3600.0", _EVERY),
        Seen("rule cron 0 3 * * *", {"cron": "0 3 * * *", "timezone": "UTC"}),
    ),
    "slug": (Seen("schedule mine: not ours", "mine"),),
}
RRULE: Mapping[str, tuple[Verdict, ...]] = {
    "rrule": (Seen("rule ", _RULE),),
    "timezone": (Seen("zone Asia/Tokyo", {**_RULE, "timezone": "Asia/Tokyo"}),),
}
INTERVAL: Mapping[str, tuple[Verdict, ...]] = {
    "anchor_date": (Seen("anchor ", _EVERY),),
    "interval": (Seen("every 7200.0", {**_EVERY, "interval": 7200}),),
    "timezone": (Seen("zone Asia/Tokyo", {**_EVERY, "timezone": "Asia/Tokyo"}),),
}
WORK_POOL: Mapping[str, tuple[Verdict, ...]] = {
    "base_job_template": (
        Seen("template variables.properties.command: ", _OWN_COMMAND),
        Seen("template variables.properties.env: ", _OWN_PLACE),
    ),
    "concurrency_limit": (
        Seen("closed: true → false", 0),
        Harmless("how many at a time is its owner's choice: what waits keeps its window, and doctor names it", 3),
    ),
    "description": (Harmless("words", "mine"),),
    "is_paused": (Seen("paused: true → false", value=True),),
    "storage_configuration": (Harmless("where Prefect puts code that it sends; ours is never sent", {}),),
}
WORK_QUEUE: Mapping[str, tuple[Verdict, ...]] = {
    "concurrency_limit": (
        Seen("queue_closed: true → false", 0),
        Harmless("how many at a time is its owner's choice: what waits keeps its window, and doctor names it", 3),
    ),
    "description": (Harmless("words", "mine"),),
    "filter": (Harmless("only queues without a pool have one", None),),
    "is_paused": (Seen("queue_paused: true → false", value=True),),
    "last_polled": (Harmless("a worker's sign of life", "2026-11-20T00:00:00Z"),),
    "name": (Harmless("deployments are tied to the queue, and not to its name", "first"),),
    "priority": (Seen("windows_first: false → true", 7),),
}
ASSESSMENTS: Mapping[str, tuple[Verdict, ...]] = {
    **{name: verdicts for name, verdicts in WORK_QUEUE.items() if name in {"description", "filter", "last_polled"}},
    "concurrency_limit": (
        Seen("assessments_closed: true → false", 0),
        Harmless("how many at a time is its owner's choice: what waits is no window", 3),
    ),
    "is_paused": (Seen("assessments_paused: true → false", value=True),),
    "name": (Seen("has_assessment_queue: false → true", "renamed"),),
    "priority": (Harmless("behind the default queue, whatever is between them", 9),),
}
LIMIT: Mapping[str, tuple[Verdict, ...]] = {
    "active": (Seen("limit active: false → true", value=False),),
    "active_slots": (Harmless("changes with each run; doctor (`limit`) names windows that a taken place kept out", 1),),
    "denied_slots": (Harmless("a count", 5),),
    "limit": (Seen("at_once: 5 → 1", 5),),
    "name": (Seen("limit own: false → true", "renamed"),),
    "slot_decay_per_second": (Seen("limit slot_decay_per_second: 1.5 → 0.0", 1.5),),
}
OPTIONS: Mapping[str, tuple[Verdict, ...]] = {
    "collision_strategy": (Seen("limit collision_strategy: ENQUEUE → CANCEL_NEW", {"collision_strategy": "ENQUEUE"}),),
    "grace_period_seconds": (
        Seen("limit grace_period_seconds: 90", {"collision_strategy": "CANCEL_NEW", "grace_period_seconds": 90}),
    ),
}
AUTOMATION: Mapping[str, tuple[Verdict, ...]] = {
    "actions": (Seen("actions: ", [_NOTHING]),),
    "actions_on_resolve": (Seen("at_resolve: ", [_NOTHING]),),
    "actions_on_trigger": (Seen("at_trigger: ", [_NOTHING]),),
    "description": (Seen("description: mine", "mine"),),
    "enabled": (Seen("enabled: false → true", value=False),),
    "name": (Seen("create automation ", "renamed"),),
    "owner_resource": (NotThere("Prefect sets it for what a deployment of its own kind brings along"),),
    "tags": (Harmless("labels; nothing reads them", ["mine"]),),
    "trigger": (
        Seen(
            "trigger ",
            {"type": "event", "posture": "Reactive", "expect": ["a"], "threshold": 1, "within": 0.0},
        ),
    ),
}
FLOW: Mapping[str, tuple[Verdict, ...]] = {"tags": (Harmless("labels; nothing reads them", ["mine"]),)}

Put = Callable[[Offered, Mapping[str, Any]], None]
_START = (
    "enforce_parameter_schema entrypoint infrastructure_document_id job_variables path pull_steps storage_document_id"
)
_ASPECTS = {
    **{f"deployment.{field}": "start" for field in _START.split()},
    "deployment.concurrency_limit": "limit",
    "deployment.concurrency_options": "limit",
    "deployment.global_concurrency_limit_id": "limit",
    "deployment.schedules": "schedule",
    "work queue.priority": "assessment queue",  # without that queue, it is of no account
}
_KINDS = {"schedule": "deployment", "limit": "deployment", "flow": "deployment"}
_KINDS |= {"work queue": "work pool", "assessment queue": "work pool"}


@dataclass(frozen=True)
class Row:
    """A field, and what becomes of a change of it."""

    what: str
    field: str
    verdict: Verdict
    put: Put

    def __str__(self) -> str:
        return f"{self.what}.{self.field}"

    @property
    def kind(self) -> str:
        """The kind of object whose differences show a change of this field."""
        return _KINDS.get(self.what, self.what)

    @property
    def aspect(self) -> str:
        """What may hide a change of it: fields of one aspect are changed one after the other."""
        return _ASPECTS.get(str(self)) or self.what

    @property
    def places(self) -> int:
        """On how many things of a fleet it can be changed."""
        return {"deployment": len(WINDOWS), "automation": AUTOMATIONS}.get(self.kind, 1)

    def change(self, place: Offered) -> None:
        """Change it."""
        assert not isinstance(self.verdict, NotThere)
        value = self.verdict.value(place) if callable(self.verdict.value) else self.verdict.value
        beside = self.verdict.beside if isinstance(self.verdict, Seen) else None
        self.put(place, {self.field: value, **(beside or {})})


_AS_FIELD: Mapping[str, tuple[Mapping[str, tuple[Verdict, ...]], Put]] = {
    "deployment": (DEPLOYMENT, Offered.on_deployment),
    "schedule": (SCHEDULE, Offered.on_schedule),
    "work pool": (WORK_POOL, Offered.on_pool),
    "work queue": (WORK_QUEUE, Offered.on_queue),
    "assessment queue": (ASSESSMENTS, Offered.on_assessments),
    "limit": (LIMIT, Offered.on_limit),
    "automation": (AUTOMATION, Offered.on_automation),
    "flow": (FLOW, Offered.on_flow),
}
_INSIDE: Mapping[str, tuple[str, str, type[BaseModel], Mapping[str, tuple[Verdict, ...]]]] = {
    "rrule schedule": ("schedule", "schedule", schedules.RRuleSchedule, RRULE),
    "interval schedule": ("schedule", "schedule", schedules.IntervalSchedule, INTERVAL),
    "concurrency options": ("deployment", "concurrency_options", objects.ConcurrencyOptions, OPTIONS),
}
"""Fields whose value has fields of its own: where they stand."""


def rows() -> Iterator[Row]:
    """Give what is changed: what, which field, what should become of it, and how it is changed."""
    for what, (table, put) in _AS_FIELD.items():
        for name, verdicts in table.items():
            yield from (Row(what, name, each, put) for each in verdicts)
    for outer, field, _, table in _INSIDE.values():
        for verdicts in table.values():
            yield from (Row(outer, field, each, _AS_FIELD[outer][1]) for each in verdicts)


def harmless() -> list[Row]:
    """Return what may be changed without any difference."""
    return [row for row in rows() if isinstance(row.verdict, Harmless)]


def seen_together() -> list[list[tuple[int, Row]]]:
    """Return the changes that are seen, each with the number of the thing that is changed, as many at a time as can be.

    None hides another one: of one thing, fields of one aspect are changed one after the other. The automations are
    changed from the last to the first: one that has another name then moves no other one.
    """
    by_aspect: dict[str, list[Row]] = {}
    for row in rows():
        rows_of_aspect = by_aspect.setdefault(row.aspect, [])
        if isinstance(row.verdict, Seen) and row not in rows_of_aspect:  # the same change listed twice is made once
            rows_of_aspect.append(row)
    rounds: list[list[tuple[int, Row]]] = []
    for rows_of_aspect in by_aspect.values():
        for place, row in enumerate(rows_of_aspect):
            number, thing = divmod(place, row.places)
            while len(rounds) <= number:
                rounds.append([])
            rounds[number].append((thing, row))
    return [sorted(together, key=lambda change: -change[0]) for together in rounds]


def _find_models() -> Mapping[str, tuple[type[BaseModel], ...]]:
    """Return the models that hold what Prefect offers: the client's, and the server's: slow to import."""
    from prefect.server.events.schemas import automations as server_automations
    from prefect.server.schemas import actions as server_actions

    return {
        "deployment": (actions.DeploymentUpdate, server_actions.DeploymentUpdate),
        "schedule": (actions.DeploymentScheduleUpdate, server_actions.DeploymentScheduleUpdate),
        "work pool": (actions.WorkPoolUpdate, server_actions.WorkPoolUpdate),
        "work queue": (actions.WorkQueueUpdate, server_actions.WorkQueueUpdate),
        "assessment queue": (actions.WorkQueueUpdate, server_actions.WorkQueueUpdate),
        "limit": (actions.GlobalConcurrencyLimitUpdate, server_actions.ConcurrencyLimitV2Update),
        "automation": (AutomationCore, server_automations.AutomationUpdate, server_automations.AutomationPartialUpdate),
        "flow": (server_actions.FlowUpdate,),
    }


def undecided() -> Iterator[str]:
    """Give the fields that Prefect offers and no table has, and those that a table has and Prefect doesn't offer."""
    models_of = _find_models()
    offered = {what: (models_of[what], table) for what, (table, _) in _AS_FIELD.items()}
    offered |= {what: ((model,), table) for what, (_, _, model, table) in _INSIDE.items()}
    for what, (models, table) in offered.items():
        fields = {field for model in models for field in model.model_fields}
        yield from (f"{what}.{field}" for field in sorted(fields ^ table.keys()))
