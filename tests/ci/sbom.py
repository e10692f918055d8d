"""Makes the bill of materials of a release: what requirements.lock names, as CycloneDX 1.6 in JSON.

It needs no network. Names, versions, hashes and dependencies are those of the lock. Licences are what the packages
that are installed here say of themselves. The lock names packages for other systems and Pythons, too: their licence is
not known here, and the document says so.
"""

import importlib.metadata
import re
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, License
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from tests.ci.lock_files import LockedPackage

MARKER: Final = "fleetpatch:marker"
UNKNOWN_LICENCE: Final = "fleetpatch:licence-not-known"
HASHES: Final = "fleetpatch:hashes"
_ONE_OF: Final = "each hash is that of one file of the version; an installation has one of these files"


def build_sbom(
    project: str, version: str, licence: str, packages: Iterable[LockedPackage], wheel_sha256: str, made_at: datetime
) -> str:
    """Return the document. The same arguments and the same installed packages give the same bytes.

    Args:
        project: the normalized name of the project.
        licence: its licence, an SPDX expression.
        made_at: the time of the commit, with a zone.

    Raises:
        ValueError: the document does not fit CycloneDX's schema.
    """
    purl = PackageURL("pypi", None, project, version)
    root = Component(
        type=ComponentType.APPLICATION,
        name=project,
        version=version,
        purl=purl,
        bom_ref=str(purl),
        licenses=[LicenseFactory().make_from_string(licence)],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=wheel_sha256)],
    )
    entries = [(package, _build_component(package)) for package in packages]
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"{purl} {wheel_sha256}")
    note = Property(name=HASHES, value=_ONE_OF)
    metadata = BomMetaData(component=root, timestamp=made_at, properties=[note])
    bom = Bom(serial_number=serial, metadata=metadata, components=[component for _, component in entries])
    dependencies: dict[str, list[Component]] = {}
    for package, component in entries:
        for name in package.needed_by:
            dependencies.setdefault(name, []).append(component)
    bom.register_dependency(root, dependencies.get(project, []))
    for package, component in entries:
        bom.register_dependency(component, dependencies.get(package.name, []))
    document = JsonV1Dot6(bom).output_as_string(indent=1) + "\n"
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(document):
        raise ValueError(f"the bill of materials does not fit CycloneDX 1.6: {error.data.message}")
    return document


def _build_component(package: LockedPackage) -> Component:
    purl = PackageURL("pypi", None, package.name, package.version)
    licences = _find_licences(package)
    properties = [Property(name=MARKER, value=package.marker)] if package.marker else []
    if not licences:
        properties.append(Property(name=UNKNOWN_LICENCE, value="no installed package of this version names one"))
    return Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        purl=purl,
        bom_ref=str(purl),
        licenses=licences,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in package.sha256],
        properties=properties,
    )


def _find_licences(package: LockedPackage) -> list[License]:
    """Return what the installed package says: an SPDX expression or identifier, else the names of its classifiers."""
    try:
        metadata = importlib.metadata.metadata(package.name)
    except importlib.metadata.PackageNotFoundError:
        return []
    if metadata["Version"] != package.version:
        return []
    factory = LicenseFactory()
    for said in (metadata["License-Expression"], metadata["License"]):
        licence = factory.make_from_string(said.strip()) if said and "\n" not in said.strip() else None
        if licence is not None and not (isinstance(licence, DisjunctiveLicense) and licence.name):
            return [licence]
    names = re.findall(r"^License :: (?:.* :: )?(.+)$", "\n".join(metadata.get_all("Classifier") or []), re.MULTILINE)
    return [DisjunctiveLicense(name=name) for name in names]
