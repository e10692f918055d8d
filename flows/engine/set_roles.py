"""The order of roles in machine sets: whether the turn of a member's role has come."""

import functools
from collections.abc import Callable, Mapping, Sequence

from flows.engine.member_questions import MemberQuestions
from inventory.machine_sets import MachineSet
from tasks.domain.errors import FleetpatchError, RecordsError
from tasks.rules.runs.set_capacity import Refusal, WaitsFor, check_role_order, find_rank
from tasks.steps.context.machine_context import MachineContext


class SetRoles:
    """The roles of the members of sets in one run. Safe for use by many threads.

    Args:
        sets: the sets of each machine, in the order of the inventory.
        questions: asks for roles.
        is_left: whether this run has still to change a member.
        is_later: whether a member is in a later wave.
        warn: is told of orders that contradict each other: an id, and the words.
    """

    def __init__(
        self,
        sets: Mapping[str, Sequence[MachineSet]],
        questions: MemberQuestions,
        is_left: Callable[[str], bool],
        is_later: Callable[[str], bool],
        warn: Callable[[str, str], None],
    ) -> None:
        self._sets = sets
        self._questions = questions
        self._is_left, self._is_later = is_left, is_later
        self._warn = warn

    def check(self, context: MachineContext) -> Refusal | None:
        """Return why the turn of a member's role has not come yet; None if it has.

        Raises:
            RecordsError: the records failed.
        """
        own_roles: dict[str, str] = {}
        for each in self._sets[context.name]:
            if each.role is None or not each.order:
                continue
            try:
                role = own_roles[each.name] = self._questions.ask_own_role(each, context)
            except RecordsError:
                raise
            except FleetpatchError as error:
                return Refusal(f"set {each.name}: its role is not known: {error.message}", WaitsFor.HEALTH)
            if rank := find_rank(each, role):
                left = [name for name in each.members if name != context.name and self._is_left(name)]
                roles = {name: self._find_role(each, name, rank) for name in left}
                for name in [name for name, other in roles.items() if find_rank(each, other) < rank]:
                    if self._comes_after(name, context.name, each, own_roles):
                        del roles[name]
                later = {name for name in roles if self._is_later(name)}
                if refusal := check_role_order(each, role, roles, later):
                    return refusal
        return None

    def _find_role(self, machine_set: MachineSet, name: str, rank: int) -> str:
        """Return the role of another member. One that would have to come first says itself when its role changes."""
        return self._questions.find_role(machine_set, name, lambda role: find_rank(machine_set, role) < rank)

    def _comes_after(self, other: str, name: str, machine_set: MachineSet, own_roles: Mapping[str, str]) -> bool:
        """Return whether an earlier set of the inventory lets the other member come after this one.

        Each would wait for the other until the end of the window, so the set that the inventory names first counts.
        """
        for each in self._sets[name]:
            if each is machine_set:
                break
            if each.name not in own_roles or other not in each.members:
                continue
            rank = find_rank(each, own_roles[each.name])
            role = self._questions.find_role(each, other, functools.partial(_is_later_role, each, rank))
            if find_rank(each, role) > rank:
                self._warn(
                    f"{each.name}/{machine_set.name}",
                    f"the orders of the sets {each.name} and {machine_set.name} contradict each other, for {name} and "
                    f"{other}: that of set {each.name} counts",
                )
                return True
        return False


def _is_later_role(machine_set: MachineSet, rank: int, role: str) -> bool:
    return find_rank(machine_set, role) > rank
