"""The JSON Schema of configurations, for editors."""

from typing import Any

from deployments.config.form import ConfigurationForm, FileForm

SCHEMA_FILE = "configuration.schema.json"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a file: one configuration, or a list of them."""
    several = FileForm.model_json_schema()
    single = ConfigurationForm.model_json_schema()
    parts = {**several.pop("$defs", {}), **single.pop("$defs", {})}
    parts["FileForm"] = several
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fleetpatch maintenance configurations",
        "description": "One configuration, or several under `configurations:`.",
        "$defs": dict(sorted({**parts, "ConfigurationForm": single}.items())),
        "if": {"anyOf": [{"required": ["configurations"]}, {"not": {"required": ["name"]}}]},
        "then": {"$ref": "#/$defs/FileForm"},
        "else": {"$ref": "#/$defs/ConfigurationForm"},
    }
