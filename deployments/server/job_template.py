"""The job template of work pools: a flow run may choose nothing of the process that executes it.

Prefect's own template lets each flow run and each deployment choose the command, the environment, and the folder. Then
everybody who may start a run can run any command as the worker, with the worker's environment.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

CLOSED_JOB_TEMPLATE: Final[Mapping[str, Any]] = {
    "job_configuration": {"stream_output": True},
    "variables": {"type": "object", "properties": {}, "additionalProperties": False},
}
"""The server refuses flow runs with job variables (422), and the worker ignores any that it still gets.

It has no ``env``: Prefect's worker (3.8.8, ``from_template_and_values``) merges job variables into an ``env`` of the
template even if no placeholder names them. The environment of the worker is that of its service.
"""


def find_open_variables(template: Mapping[str, Any]) -> Sequence[str]:
    """Return what flow runs may choose of their process: names of job variables, sorted. Pure.

    Args:
        template: Prefect's base job template of a process work pool. Prefect replaces an empty one by its own.
    """
    configuration, variables = template.get("job_configuration"), template.get("variables")
    if not isinstance(configuration, Mapping) or not isinstance(variables, Mapping):
        return ("command", "env", "working_dir")
    names = set(variables.get("properties") or {})
    if isinstance(configuration.get("env"), Mapping):
        names.add("env")
    if variables.get("additionalProperties") is not False:
        names |= {name for name, value in configuration.items() if "{{" in str(value)}
    return sorted(names)
