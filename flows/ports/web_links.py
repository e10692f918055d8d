"""Links to the pages of ``fleetpatch web`` and to Prefect's UI, for notifications, events and artifacts.

The addresses come from the environment of the process that runs the flow. A wrong address never fails a run: the text
is then without links, and the log says why.
"""

import logging
import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlsplit

from tasks.domain.errors import RequestError
from tasks.domain.model import RunInfo

logger = logging.getLogger(__name__)

WEB_URL_VARIABLE: Final = "FLEETPATCH_WEB_URL"
"""The environment variable with the public address of the pages."""
PREFECT_UI_URL_VARIABLE: Final = "PREFECT_UI_URL"
"""Prefect's own variable with the address of its UI."""


def parse_web_url(text: str, variable: str = WEB_URL_VARIABLE) -> str:
    """Return an address without a slash at its end; "" for an empty text.

    Raises:
        RequestError: it is not an http or https address, or it has credentials, a query or a fragment.
    """
    text = text.strip()
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # an invalid port raises
    except ValueError as error:
        raise RequestError(f"{variable} is not an address: {error}") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise RequestError(f"{variable} must begin with http:// or https:// and have a host")
    if "@" in parts.netloc:  # the text of the error must not repeat a password
        raise RequestError(f"{variable} must not have a user or a password")
    if "?" in text or "#" in text:
        raise RequestError(f"{variable} must not have a query or a fragment")
    if not all("!" <= character <= "~" and character not in "<>\"'`()[]{}\\^|" for character in parts.path):
        raise RequestError(f"{variable} has characters that an address must not have")
    if not all(character.isascii() and (character.isalnum() or character in ".-:[]_") for character in parts.netloc):
        raise RequestError(f"{variable} has characters that a host must not have")
    return text.rstrip("/")


def read_web_url(environment: Mapping[str, str] = os.environ, variable: str = WEB_URL_VARIABLE) -> str:
    """Return the public address of the pages; "" if it is not set or not usable. Never raises."""
    try:
        return parse_web_url(environment.get(variable, ""), variable)
    except RequestError as error:
        logger.warning("texts are without links: %s", error.message)
        return ""


def build_run_url(run_id: str, web_url: str) -> str:
    """Return the address of a run's page; "" without an address of the pages."""
    return f"{web_url}/runs/{quote(run_id, safe='')}" if web_url else ""


def build_approval_url(run_id: str, web_url: str) -> str:
    """Return the address of the page on which a run is approved; "" without an address of the pages."""
    return f"{web_url}/approvals/{quote(run_id, safe='')}" if web_url else ""


def build_machine_url(run_id: str, machine: str, web_url: str) -> str:
    """Return the address of one machine in a run; "" without an address of the pages."""
    return f"{build_run_url(run_id, web_url)}/machines/{quote(machine, safe='')}" if web_url else ""


def build_prefect_url(run: RunInfo, prefect_url: str) -> str:
    """Return the address of the flow run in Prefect's UI; "" if there is none."""
    return f"{prefect_url}/runs/flow-run/{quote(run.flow_run_id, safe='')}" if prefect_url and run.flow_run_id else ""
