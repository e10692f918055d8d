"""Errors of configurations. tasks/errors.py shows the whole tree of errors."""

from collections.abc import Sequence

from inventory.errors import InventoryError


class InvalidConfigurations(InventoryError):
    """All problems of configurations, found in one pass. File, line and key are those of the first problem.

    Attributes:
        problems: the problems in the order of the files; each has its place and its hint.
    """

    def __init__(self, problems: Sequence[InventoryError]) -> None:
        first = problems[0]
        super().__init__(_render_problems(problems), hint=first.hint if len(problems) == 1 else "")
        self.problems = tuple(problems)
        self.file, self.line, self.key = first.file, first.line, first.key


def _render_problems(problems: Sequence[InventoryError]) -> str:
    if len(problems) == 1:
        return problems[0].message
    lines = [f"{problem.message}\n    {problem.hint}" if problem.hint else problem.message for problem in problems]
    return "\n".join([f"{len(problems)} faults in the configurations:", *lines])
