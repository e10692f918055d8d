"""The schema of inventory files. The public function returns the JSON Schema."""

from inventory.schema.entries import build_json_schema

__all__ = ["build_json_schema"]
