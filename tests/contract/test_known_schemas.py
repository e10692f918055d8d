"""Prefect's own validator remembers valid schemas, and refuses what it refused before."""

from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from prefect.utilities.schema_tools import validation

from flows.prefect_api import application
from flows.prefect_api.application import remember_valid_schemas

NUMBER = {"type": "object", "properties": {"count": {"type": "integer"}}}
TEXT = {"type": "object", "properties": {"count": {"type": "string"}}}
INVALID = {"type": "object", "properties": {"count": {"type": "a number"}}}


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The schemas that Prefect's validator has judged, since it remembers them."""
    schemas: list[Any] = []
    validator = validation._build_validator()
    check_schema = validator.check_schema

    def check_and_tell(schema: Any, **options: Any) -> None:
        schemas.append(schema)
        check_schema(schema, **options)

    monkeypatch.setattr(validator, "check_schema", check_and_tell)
    monkeypatch.setattr(validation, "_VALIDATOR", validator)
    remember_valid_schemas(SimpleNamespace(_VALIDATOR=validator))
    return schemas


def test_a_valid_schema_is_judged_once_and_parameters_each_time(judged: list[Any]) -> None:
    for _ in range(3):
        validation.validate({"count": 1}, NUMBER, raise_on_error=True, preprocess=False)
        with pytest.raises(validation.ValidationError, match="'one' is not of type 'integer'"):
            validation.validate({"count": "one"}, NUMBER, raise_on_error=True, preprocess=False)
    assert judged == [NUMBER]
    validation.validate({"count": "one"}, TEXT, raise_on_error=True, preprocess=False)
    assert judged == [NUMBER, TEXT]


def test_an_invalid_schema_is_refused_each_time(judged: list[Any]) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="Invalid schema"):
            validation.is_valid_schema(INVALID, preprocess=False)
        with pytest.raises(jsonschema.SchemaError):
            validation.validate({"count": 1}, INVALID, raise_on_error=True, preprocess=False)
    assert judged == [INVALID] * 4


def test_no_more_schemas_are_kept_than_it_may_keep(judged: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "_MOST_KNOWN", 1)
    for schema in (NUMBER, TEXT, NUMBER):
        validation.is_valid_schema(schema, preprocess=False)
    assert judged == [NUMBER, TEXT, NUMBER]


def test_what_is_no_json_is_judged_each_time(judged: list[Any]) -> None:
    schema = {**NUMBER, "default": object()}
    for _ in range(2):
        validation.is_valid_schema(schema, preprocess=False)
    assert judged == [schema] * 2
