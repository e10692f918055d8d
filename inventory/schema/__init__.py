"""The form of inventory files. The public name: their JSON Schema."""

from inventory.schema.entries import build_json_schema

json_schema = build_json_schema  # the name before the renaming

__all__ = ["build_json_schema", "json_schema"]
