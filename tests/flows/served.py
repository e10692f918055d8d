"""A deployment of patch-fleet on the tests' server, whose runs are made as Prefect makes them and carried out here."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.flow_engine import run_flow

from deployments.sync.builtin_deployments import build_builtin_deployments
from deployments.sync.change_applier import put_deployment
from flows.patch import patch_fleet
from flows.request.patch_request import PatchRequest


def put_forms(fleet: str) -> dict[str, UUID]:
    """Put the forms of a fleet on the server, as `fleetpatch deploy` does, without a work pool. Return ids by flow."""
    with get_client(sync_client=True) as client:
        return {
            each.flow: put_deployment(client, client.create_flow_from_name(each.flow), each)
            for each in build_builtin_deployments(fleet, "", None)
        }


class Served:
    """A deployment of patch-fleet."""

    def scheduled(self, request: PatchRequest, due: datetime, times: int = 1) -> list[FlowRun]:
        """Let the server's own scheduler make runs for that moment, one for each of the schedules, and run them."""
        return [self.carried_out(run) for run in self.made(request, due, times)]

    def started(self, request: PatchRequest, **fields: Any) -> FlowRun:
        """Start it as a person does."""
        return self.carried_out(asyncio.run(self._started(request, **fields)))

    def made(self, request: PatchRequest, due: datetime, times: int = 1, tags: Sequence[str] = ()) -> list[FlowRun]:
        """Let the server's own scheduler make runs, as ``scheduled`` does, and leave them."""
        return self.made_of(request.model_dump(mode="json"), due, times, tags)

    def made_of(
        self, request: dict[str, Any], due: datetime, times: int = 1, tags: Sequence[str] = (), **fields: Any
    ) -> list[FlowRun]:
        """The same for what a deployment holds, whatever version wrote it; ``fields`` are the deployment's own."""
        return asyncio.run(self._scheduled(request, due, times, tags, **fields))

    def run_reconcile(self, flow: Flow[..., Any], tags: Sequence[str]) -> None:
        """Start another flow as a run of a deployment with such tags."""

        async def made() -> FlowRun:
            async with get_client() as client:
                name, known = f"scheduled-{uuid4()}", await client.create_flow(flow)
                deployment = await client.create_deployment(known, name, tags=list(tags))
                return await client.create_flow_run_from_deployment(deployment)

        run_flow(flow, flow_run=asyncio.run(made()), return_type="state")

    def daily(self, due: datetime) -> IntervalSchedule:
        """A schedule that comes every day from a moment on."""
        return IntervalSchedule(interval=timedelta(days=1), anchor_date=due - timedelta(days=1))

    async def deployed(
        self,
        request: PatchRequest | dict[str, Any],
        *schedules: IntervalSchedule,
        tags: Sequence[str] = (),
        **fields: Any,
    ) -> UUID:
        """Put it on the server and return its id."""
        asked = request.model_dump(mode="json") if isinstance(request, PatchRequest) else request
        async with get_client() as client:
            return await client.create_deployment(
                await client.create_flow(patch_fleet),
                f"web-{uuid4()}",
                parameters={"request": asked},
                schedules=[DeploymentScheduleCreate(schedule=each, active=True) for each in schedules],
                tags=list(tags),
                **fields,
            )

    def carried_out(self, run: FlowRun) -> FlowRun:
        """Carry a run out here, as a worker does in a process of its own."""
        parameters = {"request": PatchRequest.model_validate(run.parameters["request"])}
        run_flow(patch_fleet, flow_run=run, parameters=parameters, return_type="state")
        with get_client(sync_client=True) as client:
            return client.read_flow_run(run.id)

    async def _scheduled(
        self, request: dict[str, Any], due: datetime, times: int, tags: Sequence[str], **fields: Any
    ) -> list[FlowRun]:
        daily = IntervalSchedule(interval=timedelta(days=1), anchor_date=due)
        deployment = await self.deployed(request, *[daily] * times, tags=tags, **fields)
        around = {"start_time": (due - timedelta(minutes=1)).isoformat(), "end_time": (due + timedelta(1)).isoformat()}
        async with get_client() as client:
            asked: dict[str, Any] = {"path_params": {"id": deployment}, "json": {**around, "max_runs": 1}}
            await client.request("POST", "/deployments/{id}/schedule", **asked)
            mine = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
            runs = await client.read_flow_runs(deployment_filter=mine)
        found = [run for run in runs if run.expected_start_time == due]
        assert len(found) == times
        return found

    async def _started(self, request: PatchRequest, **fields: Any) -> FlowRun:
        deployment = await self.deployed(request)
        async with get_client() as client:
            return await client.create_flow_run_from_deployment(deployment, **fields)
