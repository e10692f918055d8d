"""Adds what Ubuntu Pro's client reports to the pending updates: CVEs, and updates that need a subscription. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tasks.domain.model import Update
from tasks.domain.states import SUBSCRIPTION_REQUIRED, Classification
from tasks.machines.managers.boot_packages import is_boot_package

_PRO_SERVICE_NAMES = {"esm-infra": "Ubuntu Pro (esm-infra)", "esm-apps": "Ubuntu Pro (esm-apps)"}


def with_pro_updates(
    updates: Sequence[Update], answer: str, native: str, installed: Mapping[str, str]
) -> tuple[Update, ...]:
    """Add the data of Ubuntu Pro's client: CVEs, and fixes that need a subscription.

    Args:
        updates: the pending updates without it.
        answer: the JSON of ``pro api u.pro.packages.updates.v1`` or ``…updates_with_cves.v1``; invalid JSON adds
            nothing.
        native: the machine's own architecture.
        installed: package -> version.
    """
    pro_updates = _parse_pro_updates(answer)
    cves = {str(item["package"]): _parse_cves(item["related_cves"]) for item in pro_updates if "related_cves" in item}
    enriched = tuple(replace(update, cves=cves.get(update.name, update.cves)) for update in updates)
    taken = {update.id for update in updates}
    lacking = (
        _build_unpaid_update(item, native, installed, taken)
        for item in pro_updates
        if str(item.get("status")) in {"pending_attach", "pending_enable"}
    )
    return (*enriched, *lacking)


def _parse_pro_updates(answer: str) -> list[dict[str, object]]:
    try:
        items = json.loads(answer)["data"]["attributes"]["updates"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
    return [item for item in items if isinstance(item, dict) and item.get("package")] if isinstance(items, list) else []


def _parse_cves(names: object) -> tuple[str, ...] | None:
    return tuple(str(name) for name in names) if isinstance(names, list) else None


def _build_unpaid_update(
    item: Mapping[str, object], native: str, installed: Mapping[str, str], taken: set[str]
) -> Update:
    name, size = str(item["package"]), item.get("download_size")
    service = _PRO_SERVICE_NAMES.get(str(item.get("provided_by")), "Ubuntu Pro")
    blocked = f"{SUBSCRIPTION_REQUIRED}: needs {service}; run: pro attach"
    if item.get("status") != "pending_attach":  # it is paid
        blocked = f"{service} is not enabled on this machine; run: pro enable {item.get('provided_by')}"
    return Update(
        id=f"{name}+esm" if name in taken else name,
        name=name,
        arch=native,
        installed=installed.get(name),
        available=str(item.get("version") or "UA_ESM_Required"),
        classification=Classification.SECURITY_ESM,
        origins=(str(item.get("origin") or service),),
        cves=_parse_cves(item.get("related_cves")),
        size_bytes=size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63 else None,
        group=name,
        changes_boot=is_boot_package(name),
        blocked=blocked,
    )
