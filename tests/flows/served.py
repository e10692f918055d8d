"""A deployment of patch-fleet on the tests' server, whose runs are made as Prefect makes them and carried out here."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.flow_engine import run_flow

from flows.patch import patch_fleet
from flows.request import PatchRequest


class Served:
    """A deployment of patch-fleet."""

    def scheduled(self, request: PatchRequest, due: datetime, times: int = 1) -> list[FlowRun]:
        """Let the server's own scheduler make runs for that moment, one for each of the schedules, and run them."""
        return [self._carried_out(run) for run in asyncio.run(self._scheduled(request, due, times))]

    def started(self, request: PatchRequest) -> FlowRun:
        """Start it as a person does."""
        return self._carried_out(asyncio.run(self._started(request)))

    def _carried_out(self, run: FlowRun) -> FlowRun:
        parameters = {"request": PatchRequest.model_validate(run.parameters["request"])}
        run_flow(patch_fleet, flow_run=run, parameters=parameters, return_type="state")
        with get_client(sync_client=True) as client:
            return client.read_flow_run(run.id)

    async def _deployed(self, request: PatchRequest, *schedules: IntervalSchedule) -> UUID:
        async with get_client() as client:
            return await client.create_deployment(
                await client.create_flow(patch_fleet),
                f"web-{uuid4()}",
                parameters={"request": request.model_dump(mode="json")},
                schedules=[DeploymentScheduleCreate(schedule=each, active=True) for each in schedules],
            )

    async def _scheduled(self, request: PatchRequest, due: datetime, times: int) -> list[FlowRun]:
        daily = IntervalSchedule(interval=timedelta(days=1), anchor_date=due)
        deployment = await self._deployed(request, *[daily] * times)
        around = {"start_time": (due - timedelta(minutes=1)).isoformat(), "end_time": (due + timedelta(1)).isoformat()}
        async with get_client() as client:
            asked: dict[str, Any] = {"path_params": {"id": deployment}, "json": {**around, "max_runs": 1}}
            await client.request("POST", "/deployments/{id}/schedule", **asked)
            mine = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
            runs = await client.read_flow_runs(deployment_filter=mine)
        found = [run for run in runs if run.expected_start_time == due]
        assert len(found) == times
        return found

    async def _started(self, request: PatchRequest) -> FlowRun:
        deployment = await self._deployed(request)
        async with get_client() as client:
            return await client.create_flow_run_from_deployment(deployment)
