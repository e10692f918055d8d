"""A journal of orders in memory."""

from collections.abc import Sequence
from datetime import datetime

from tasks.domain.states import ChangeState


class FakeOrders:
    """Keeps the state of each machine in each order, and everything that was stored, in its order."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], ChangeState] = {}
        self.told: list[tuple[str, ChangeState]] = []

    def begin(self, order_id: str, act: str, machine: str, by: str, at: datetime) -> None:
        self.states[order_id, machine] = ChangeState.BEGUN
        self.told.append((machine, ChangeState.BEGUN))

    def end(
        self,
        order_id: str,
        machine: str,
        state: ChangeState,
        at: datetime,
        *,
        message: str,
        remedy: str,
        steps: Sequence[str],
    ) -> None:
        self.states[order_id, machine] = state
        self.told.append((machine, state))
