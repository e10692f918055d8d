"""Prefect's server judges the schema of a form once, and not at each deployment and each start of a run.

To judge the schema of a patch request takes thirty times as long as to judge a request by it. Prefect 3.8.8 keeps no
judgement.
"""

import json
from collections.abc import Hashable
from typing import Any, Final

_MOST_KNOWN: Final = 1000


def remember_valid_schemas(validation: Any) -> None:  # noqa: ANN401 - a module of Prefect
    """Let a server remember which schemas are valid. It judges invalid ones anew.

    Args:
        validation: ``prefect.utilities.schema_tools.validation``.
    """
    validator = validation._VALIDATOR  # noqa: SLF001 - Prefect has no setting for it
    check_schema = validator.check_schema
    known: set[Hashable] = set()

    def check_schema_once(schema: Any, **options: Any) -> None:  # noqa: ANN401 - jsonschema's
        try:
            key = (json.dumps(schema), *sorted(options))
        except (TypeError, ValueError):  # not from JSON
            check_schema(schema, **options)
            return
        if key not in known:
            check_schema(schema, **options)
            if len(known) >= _MOST_KNOWN:
                known.clear()
            known.add(key)

    validator.check_schema = staticmethod(check_schema_once)
