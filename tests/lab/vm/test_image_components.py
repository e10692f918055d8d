"""Components on a real virtual machine that gets new OS disks by libvirt: they come again, or the disk goes back."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
import yaml

from tests.lab.packages import DebRepository
from tests.lab.vm.conftest import BootVms
from tests.lab.vm.image_hosts import PATIENCE, VERSION_FILE, ImageHosts
from tests.lab.vm.machines import VmLab

pytestmark = pytest.mark.slow

EXPORTER = "#!/bin/sh\necho exporter, version 1.0.0\n"
INSTALL = f"""[ -e /var/log/joined ] || {{ echo 'before the scripts'; exit 1; }}
! grep -qx 3 {VERSION_FILE} || {{ echo 'no such library'; exit 1; }}
install -m 755 "$FLEETPATCH_FILE" /usr/local/bin/exporter
echo "$COLOUR $FLEETPATCH_VERSION" >>/var/log/exporter-installations
"""
VERSIONS = "/usr/local/bin/exporter; dpkg-query -W -f '${Status} ${Version}' shop"


class ComponentsOfADisk:
    """A machine with an exporter, which a script installs, and a package that comes after it. No image has them."""

    def __init__(self, hosts: ImageHosts, place: Path) -> None:
        self.hosts, self.place, (self.vm,) = hosts, place, hosts.vms
        (place / "exporter").write_text(EXPORTER)
        debs = DebRepository(place / "debs")
        debs.add("shop", "2.0.0")
        (self.deb,) = debs.folder.glob("*.deb")
        for file, command in (
            (place / "exporter", "install -m 755 /root/sent /usr/local/bin/exporter"),
            (self.deb, "mv /root/sent /root/shop.deb; dpkg -i /root/shop.deb"),
        ):
            text = base64.b64encode(file.read_bytes()).decode()
            self.vm.sh(f"echo {text} | base64 -d >/root/sent; {command}", root=True)
        self.write()

    def write(self, **shop: str) -> None:
        """Write components.yaml. ``shop``: further keys of the version of the package."""
        shop_digest = hashlib.sha256(self.deb.read_bytes()).hexdigest()
        shop_version = {"version": "2.0.0", "sha256": shop_digest, "file": str(self.deb), **shop}
        exporter_digest = hashlib.sha256(EXPORTER.encode()).hexdigest()
        exporter = {
            "name": "exporter",
            "kind": "file",
            "system": "linux",
            "version": {"command": "/usr/local/bin/exporter", "pattern": "version ([0-9.]+)"},
            "install": INSTALL,
            "settings": {"COLOUR": "blue"},
            "versions": [{"version": "1.0.0", "sha256": exporter_digest, "file": "exporter"}],
        }
        after = {"name": "shop", "kind": "deb", "after": ["exporter"], "versions": [shop_version]}
        (self.place / "components.yaml").write_text(yaml.safe_dump({"components": [after, exporter]}))

    def read(self) -> str:
        return " ".join(self.vm.sh(VERSIONS, root=True).split())


def test_components_come_again_with_a_new_disk_or_it_goes_back(vm_lab: VmLab, vms: BootVms, tmp_path: Path) -> None:
    hosts = ImageHosts(vm_lab, vms(1), tmp_path)
    components = ComponentsOfADisk(hosts, tmp_path)
    before = components.read()
    assert before == "exporter, version 1.0.0 install ok installed 2.0.0"
    first = hosts.get_os_files()

    hosts.describe("2")
    components.write(withdrawn="it loses data")
    refused = hosts.upgrade("web", "--to", "2", "--roll-back").end(PATIENCE)
    assert hosts.get_os_files() == first, refused.out
    components.place.joinpath("components.yaml").write_text("components: [{name: shop}]\n")
    refused = hosts.upgrade("web", "--to", "2", "--roll-back").end(PATIENCE)
    assert refused.code != 0
    assert "components.yaml" in refused.out + refused.err
    assert hosts.get_os_files() == first

    components.write()
    told = hosts.upgrade("web", "--to", "2", "--roll-back").end(PATIENCE)
    assert [run["upgradedMachineCount"] for run in json.loads(told.out)["runs"]] == [1], told.out
    assert (hosts.read_versions(), components.read()) == (["2"], before)
    (installations,) = hosts.ask("cat /var/log/exporter-installations")
    assert installations == "blue 1.0.0"
    assert hosts.ask("[ /var/lib/dpkg/info/shop.list -nt /usr/local/bin/exporter ] && echo after") == ["after"]
    assert hosts.read_history()[0]["components"] == ["exporter 1.0.0: 1", "shop 2.0.0: 1"]
    second = hosts.get_os_files()

    hosts.describe("2", "3")
    told = hosts.upgrade().end(PATIENCE)
    (failed,) = json.loads(told.out)["runs"]
    assert (failed["upgradedMachineCount"], failed["failedMachineCount"]) == (0, 1), told.out
    outcome = hosts.controllers.newest().outcomes[0]
    (disk,) = [one for one in outcome.updates if one.update.name == "image:web"]
    assert "the component exporter 1.0.0 can't be installed again: failed: no such library" in disk.reason
    assert hosts.get_os_files() == second, "the disk before is back"
    assert (hosts.read_versions(), components.read()) == (["2"], before)
    assert hosts.ask("cat /var/log/exporter-installations") == [installations]
    hosts.assert_whole()
