"""Knows who publishes which versions: security archives, and the publishers that have one. Pure."""

from collections.abc import Iterable, Mapping

from tasks.domain.states import Classification
from tasks.machines.managers.apt.output_parsers import AvailableVersion, Release

_DISTRIBUTIONS = frozenset({"Debian", "Ubuntu"})
"""The publishers of which it is certain that they publish security fixes in an archive of their own."""


def is_security_release(release: Release) -> bool:
    """Return whether a release has only security fixes: Debian-Security, jammy-security, UbuntuESM's …-security."""
    return release.label == "Debian-Security" or any(
        name.endswith("-security") for name in (release.archive, release.codename)
    )


def find_security_publishers(releases: Iterable[Release]) -> frozenset[str]:
    """Return the publishers whose security archive is configured.

    Each vouches for itself only: UbuntuESM's archives do not have Ubuntu's fixes, and a vendor's have nobody else's.
    """
    return frozenset(_get_publisher(release) for release in releases if is_security_release(release))


def find_distributions_without_security(releases: Iterable[Release]) -> tuple[str, ...]:
    """Return the distributions that are configured without their security archive."""
    releases = tuple(releases)
    return tuple(sorted(_DISTRIBUTIONS & {*map(_get_publisher, releases)} - find_security_publishers(releases)))


def classify_releases(
    newer: Iterable[Release], wanted: Iterable[Release], security_publishers: frozenset[str]
) -> Classification:
    """Return the classification of a package's newer versions.

    Any security fix among them counts, even if a still newer version that includes it has another publisher.

    Args:
        newer: the releases of all newer versions.
        wanted: those of the version to install. If one of their publishers has a security archive, the version is no
            security fix.
        security_publishers: the publishers with a security archive.
    """
    urgent = [release for release in newer if is_security_release(release)]
    if not urgent:
        vouched = any(_get_publisher(release) in security_publishers for release in wanted)
        return Classification.OTHER if vouched else Classification.UNCLASSIFIED
    paid = all(_get_publisher(release).startswith("UbuntuESM") for release in urgent)
    return Classification.SECURITY_ESM if paid else Classification.SECURITY


def find_releases(offers: Iterable[AvailableVersion], releases: Mapping[str, Release]) -> list[Release]:
    """Return the releases of the index files that offer these versions."""
    return [releases[source] for offer in offers for source in offer.index_files if source in releases]


def is_security_version(offer: AvailableVersion, releases: Mapping[str, Release]) -> bool:
    """Return whether an index file of a security archive offers a version."""
    return any(map(is_security_release, find_releases([offer], releases)))


def find_vendors(offers: Iterable[AvailableVersion], releases: Mapping[str, Release]) -> set[str]:
    """Return the vendors of versions. A distribution and its extended support are one vendor."""
    names = {_get_publisher(release) for release in find_releases(offers, releases)} - {""}
    return {"Ubuntu" if name.startswith("UbuntuESM") else name for name in names}


def _get_publisher(release: Release) -> str:
    return release.origin or release.label
