"""The schema of inventory files. The public function returns the JSON Schema."""

from inventory.schema.fleet_file import build_json_schema

__all__ = ["build_json_schema"]
