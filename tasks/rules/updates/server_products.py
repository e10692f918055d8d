"""Names the updates of server products in a plan: their installation may stop the product's services. Pure.

Windows Update offers fixes of SQL Server and Exchange as Security updates, together with those of Windows.
"""

import re
from collections.abc import Iterable
from typing import Final

from inventory.name_lists import join_first_names
from tasks.domain.model import Update

_PRODUCTS: Final = (
    ("SQL Server", re.compile(r"\bSQL Server\b(?! Management Studio)", re.IGNORECASE)),
    ("Exchange Server", re.compile(r"\bExchange Server\b", re.IGNORECASE)),
    ("SharePoint Server", re.compile(r"\bSharePoint (?:Enterprise )?Server\b", re.IGNORECASE)),
)
_CLIENT_PATTERN: Final = re.compile(r"\b(?:driver|OLE DB|ODBC)\b", re.IGNORECASE)
"""Titles of what only talks to a product."""


def describe_server_products(updates: Iterable[Update]) -> tuple[str, ...]:
    """Return a note for each server product that has updates among these.

    Args:
        updates: the chosen updates of a machine.
    """
    names_by_product: dict[str, list[str]] = {}
    for update in updates:
        title = update.title or update.name
        if _CLIENT_PATTERN.search(title):
            continue
        for product, pattern in _PRODUCTS:
            if pattern.search(title):
                names_by_product.setdefault(product, []).append(update.name)
    return tuple(
        f"updates of {product}: {join_first_names(names)}; they may stop its services while they are installed; for a "
        f"run of their own, exclude *{product}* here"
        for product, names in names_by_product.items()
    )
