"""From what apt knows to pending updates: which version, from whom, how urgent, and what goes together.

An update is pending when apt's candidate is newer than what is installed. ``apt-get dist-upgrade`` is not asked which
ones those are: it leaves out what is held, and what another upgrade would remove. It is asked only which new packages
would come along, which no policy of an installed package can say.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.managers.apt_parse import Change, Offer, Policy, Release, release_of
from tasks.model import Update
from tasks.states import Classification

_KERNEL = re.compile(
    r"^(linux-(image|generic|virtual|aws|azure|gcp|oracle)|(pve|proxmox)-kernel|(intel|amd64)-microcode)"
)
_DEPENDENCIES = ("Pre-Depends", "Depends", "Recommends")
_DEPENDENCY_NAME = re.compile(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.\-]*)")
_SERVICES = {"esm-infra": "Ubuntu Pro (esm-infra)", "esm-apps": "Ubuntu Pro (esm-apps)"}
_PHASED = "PHASED: its publisher is rolling it out step by step and has not reached this machine"


@dataclass(frozen=True, slots=True)
class AptKnowledge:
    """All that the machine's apt said of what is newer.

    Attributes:
        native: the machine's own architecture.
        held: names on hold, as apt writes them.
        stanzas: what ``apt-cache show`` said of every version of these packages.
        changes: what a dist-upgrade would install.
        deferred: names whose update is not meant for this machine yet.
    """

    native: str
    policies: tuple[Policy, ...]
    releases: Mapping[str, Release]
    held: frozenset[str]
    stanzas: tuple[Mapping[str, str], ...]
    changes: tuple[Change, ...] = ()
    deferred: frozenset[str] = frozenset()


def is_security(release: Release) -> bool:
    """Return whether a release carries security fixes only: Debian-Security, jammy-security, UbuntuESM's …-security."""
    return release.label == "Debian-Security" or any(
        name.endswith("-security") for name in (release.archive, release.codename)
    )


def classify(releases: Iterable[Release]) -> Classification:
    """Return what a package's newer versions are for.

    Any security fix among them counts, also when a newer version that includes it comes from elsewhere.
    """
    urgent = [release for release in releases if is_security(release)]
    if not urgent:
        return Classification.OTHER
    paid = all((release.origin or release.label).startswith("UbuntuESM") for release in urgent)
    return Classification.SECURITY_ESM if paid else Classification.SECURITY


def pending_updates(known: AptKnowledge) -> tuple[Update, ...]:
    """Return the pending updates, those of installed packages first, then the packages that come along with them."""
    stanzas = {(full_name(stanza, known.native), stanza.get("Version", "")): stanza for stanza in known.stanzas}
    upgrades = [update for policy in known.policies if (update := _upgrade(policy, known, stanzas))]
    fresh = [change for change in known.changes if change.old is None]
    updates = (*upgrades, *_companions(fresh, upgrades, stanzas, known))
    if any(is_security(release) for release in known.releases.values()):
        return updates
    # nobody tells this machine what is a security fix: that is not the same as there being none
    return tuple(replace(update, classification=Classification.UNCLASSIFIED) for update in updates)


def full_name(stanza: Mapping[str, str], native: str) -> str:
    """Return a package's name as apt writes it: with its architecture only where that is a foreign one."""
    name, arch = stanza.get("Package", ""), stanza.get("Architecture", "")
    return name if arch in {native, "all", ""} else f"{name}:{arch}"


_Stanzas = Mapping[tuple[str, str], Mapping[str, str]]


def _upgrade(policy: Policy, known: AptKnowledge, stanzas: _Stanzas) -> Update | None:
    wanted = next((offer for offer in policy.newer if offer.version == policy.candidate), None)
    pinned = wanted is None
    secure = next((offer for offer in policy.newer if _secure(offer, known)), None)
    if wanted is None:  # apt's preferences keep it where it is: worth a word only when that keeps a security fix away
        wanted = secure
    if wanted is None or policy.installed is None:
        return None
    releases = [
        known.releases[source] for offer in policy.newer for source in offer.sources if source in known.releases
    ]
    name, stanza = policy.name.partition(":")[0], stanzas.get((policy.name, wanted.version), {})
    return Update(
        id=policy.name,
        name=name,
        arch=stanza.get("Architecture") or policy.name.partition(":")[2] or known.native,
        installed=policy.installed,
        available=wanted.version,
        classification=classify(releases),
        origins=tuple(dict.fromkeys(str(release) for release in releases)),
        size_bytes=_size(stanza),
        group=_source(stanza) or name,
        held=pinned or policy.name in known.held,
        blocked=_PHASED if policy.name in known.deferred else "",
        requires_reboot=True if _KERNEL.match(name) else None,
        security_version="" if secure is None or secure.version == wanted.version else secure.version,
        vendor_change=_vendor_change(policy, wanted, known),
    )


def _vendor_change(policy: Policy, wanted: Offer, known: AptKnowledge) -> str:
    """Return "A -> B" when none that publishes the wanted version publishes the installed one, or else an older one."""
    current = [offer for offer in policy.older if offer.version == policy.installed]
    have = _vendors(current, known) or _vendors(policy.older, known)
    comes = _vendors([wanted], known)
    return f"{', '.join(sorted(have))} -> {', '.join(sorted(comes))}" if have and comes and not have & comes else ""


def _vendors(offers: Iterable[Offer], known: AptKnowledge) -> set[str]:
    releases = [known.releases[source] for offer in offers for source in offer.sources if source in known.releases]
    names = {release.origin or release.label for release in releases} - {""}
    return {"Ubuntu" if name.startswith("UbuntuESM") else name for name in names}


def _secure(offer: Offer, known: AptKnowledge) -> bool:
    return any(is_security(known.releases[source]) for source in offer.sources if source in known.releases)


def _size(stanza: Mapping[str, str]) -> int | None:
    size = stanza.get("Size", "")
    return int(size) if size.isascii() and size.isdigit() and len(size) < 19 else None


def _source(stanza: Mapping[str, str]) -> str:
    return stanza.get("Source", "").partition(" ")[0]


def _companions(
    fresh: Sequence[Change], upgrades: Sequence[Update], stanzas: _Stanzas, known: AptKnowledge
) -> list[Update]:
    """Return new packages that upgrades bring along (a kernel's metapackage brings the kernel).

    Each takes the classification and the group of the upgrade that brings it, for it is wanted exactly when that is.
    """
    waiting: dict[str, list[Change]] = {}
    for change in fresh:
        waiting.setdefault(change.name.partition(":")[0], []).append(change)
    found: list[Update] = []
    bringers = list(upgrades)
    while bringers:  # each looks through its dependencies once: a chain of packages may be long
        brought = [(change, update) for update in bringers for change in _brought(update, waiting, stanzas)]
        bringers = [_companion(change, by, stanzas.get((change.name, change.new), {}), known) for change, by in brought]
        found += bringers
    left = [change for changes in waiting.values() for change in changes]
    return [*found, *(_companion(each, None, stanzas.get((each.name, each.new), {}), known) for each in left)]


def _brought(update: Update, waiting: dict[str, list[Change]], stanzas: _Stanzas) -> Iterator[Change]:
    """Give the packages among those that wait which an update depends on; they wait no longer."""
    stanza = stanzas.get((update.id, update.available), {})
    for key in _DEPENDENCIES:
        for name in _DEPENDENCY_NAME.findall(stanza.get(key, "")):
            yield from waiting.pop(name, ())


def _companion(change: Change, bringer: Update | None, stanza: Mapping[str, str], known: AptKnowledge) -> Update:
    name, releases = change.name.partition(":")[0], [release_of(origin) for origin in change.origins]
    return Update(
        id=change.name,
        name=name,
        arch=change.arch,
        installed=None,
        available=change.new,
        classification=bringer.classification if bringer else classify(releases),
        origins=change.origins,
        size_bytes=_size(stanza),
        group=bringer.group if bringer else _source(stanza) or name,
        held=bool(bringer and bringer.held) or change.name in known.held,
        requires_reboot=True if _KERNEL.match(name) else None,
    )


def with_pro(updates: Sequence[Update], answer: str, native: str, installed: Mapping[str, str]) -> tuple[Update, ...]:
    """Add what Ubuntu Pro's client knows: CVEs, and fixes that the machine can't have without a subscription.

    Args:
        updates: what is pending without it.
        answer: the JSON of ``pro api u.pro.packages.updates.v1`` or ``…updates_with_cves.v1``; garbage adds nothing.
        native: the machine's own architecture.
        installed: package -> version.
    """
    said = _pro_updates(answer)
    cves = {str(item["package"]): _cves(item["related_cves"]) for item in said if "related_cves" in item}
    enriched = tuple(replace(update, cves=cves.get(update.name, update.cves)) for update in updates)
    taken = {update.id for update in updates}
    lacking = (
        _unpaid(item, native, installed, taken)
        for item in said
        if str(item.get("status")) in {"pending_attach", "pending_enable"}
    )
    return (*enriched, *lacking)


def _pro_updates(answer: str) -> list[dict[str, object]]:
    try:
        items = json.loads(answer)["data"]["attributes"]["updates"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
    return [item for item in items if isinstance(item, dict) and item.get("package")] if isinstance(items, list) else []


def _cves(names: object) -> tuple[str, ...] | None:
    return tuple(str(name) for name in names) if isinstance(names, list) else None


def _unpaid(item: Mapping[str, object], native: str, installed: Mapping[str, str], taken: set[str]) -> Update:
    name, size = str(item["package"]), item.get("download_size")
    service = _SERVICES.get(str(item.get("provided_by")), "Ubuntu Pro")
    remedy = "pro attach" if item.get("status") == "pending_attach" else f"pro enable {item.get('provided_by')}"
    return Update(
        id=f"{name}+esm" if name in taken else name,
        name=name,
        arch=native,
        installed=installed.get(name),
        available=str(item.get("version") or "UA_ESM_Required"),
        classification=Classification.SECURITY_ESM,
        origins=(str(item.get("origin") or service),),
        cves=_cves(item.get("related_cves")),
        size_bytes=size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63 else None,
        group=name,
        blocked=f"UA_ESM_REQUIRED: needs {service}; run: {remedy}",
    )
