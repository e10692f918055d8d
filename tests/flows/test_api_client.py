"""The client that asks a Prefect server once: only its retries differ from the settings around it."""

from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_CUSTOM_HEADERS,
    PREFECT_CLIENT_MAX_RETRIES,
    get_current_settings,
    temporary_settings,
)

from flows.prefect_api.api_client import open_fail_fast_client

SURROUNDINGS = {
    PREFECT_API_URL: "http://127.0.0.1:9/api",
    PREFECT_CLIENT_CUSTOM_HEADERS: {"X-Fleet": "one"},
    PREFECT_CLIENT_MAX_RETRIES: 7,
}


def test_it_asks_once_and_all_other_settings_stay() -> None:
    with temporary_settings(SURROUNDINGS):
        before = get_current_settings()
        with open_fail_fast_client() as client:
            assert PREFECT_CLIENT_MAX_RETRIES.value() == 0
            assert str(client.api_url).startswith("http://127.0.0.1:9/api")
            own = before.client.model_dump() | {"max_retries": 0}
            assert get_current_settings().model_dump() == before.model_dump() | {"client": own}
        assert get_current_settings() == before
