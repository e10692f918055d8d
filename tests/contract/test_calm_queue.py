"""The calm queue of Prefect's servers, with the real docket: it takes new work and due work, and ends at once."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import docket
import pytest

from flows.prefect_api.idle_queue import Parameter, calm_docket

PATIENCE = 120.0


def test_new_and_due_work_is_done_and_the_end_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docket.Worker, "_cancellation_listener", None)
    monkeypatch.setattr("flows.prefect_api.idle_queue._NEW_SECONDS", 2 * PATIENCE)
    module = SimpleNamespace(Worker=docket.Worker)
    calm_docket(module)

    async def play() -> list[str]:
        done = asyncio.Queue[str]()

        async def work(name: str) -> None:
            await done.put(name)

        async with docket.Docket(name="calm", url="memory://") as queue, module.Worker(queue) as worker:
            queue.register(work)
            running = asyncio.create_task(worker.run_forever())
            await queue.add(work)("first")
            names = [await done.get()]
            await queue.add(work)("new")
            names.append(await done.get())
            await queue.add(work, when=datetime.now(UTC) + timedelta(milliseconds=100))("due")
            names.append(await done.get())
            running.cancel()
            await asyncio.wait([running])
            return names

    assert asyncio.run(asyncio.wait_for(play(), PATIENCE)) == ["first", "new", "due"]


def test_a_replaced_queue_stays() -> None:
    module = SimpleNamespace(Worker=Parameter)
    calm_docket(module)
    assert module.Worker is Parameter
