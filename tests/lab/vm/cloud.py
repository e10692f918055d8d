"""Virtual machines as a cloud has them: cloud-init alone tells them who they are, by a NoCloud seed on a CD.

Their image (``../image_cloud.sh``) has no ``lab-identity``, no logins, no sources of packages and no address.
"""

import json
import re
from pathlib import Path
from typing import Any

from tests.lab.vm.hypervisor import run
from tests.lab.vm.machines import DATA_MIB, DOMAIN, Vm, VmLab

PATIENCE = 1200.0  # seconds for a boot with cloud-init, on cores that others use: its stages are Python
_CD = """\
<controller type='scsi' index='0' model='virtio-scsi'/>
    <disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{folder}/seed.iso'/>
      <target dev='sda' bus='scsi'/><readonly/></disk>
"""
_SEED_DISK = re.compile(r"<disk (?:(?!<disk ).)*seed\.tar.*?</disk>\n", re.DOTALL)


def boot_cloud(lab: VmLab) -> Vm:
    """Make one more machine, with its first boot. Its name is a whole one (FQDN), its address a static one."""
    for flavour in ("vm", "cloud"):  # the packages' repository is that of the kind vm
        lab.script("up", "0", flavour)
    lab.hypervisor.start()
    number = max([0, *(vm.number for vm in lab.machines())]) + 1
    (lab.folder / str(number)).mkdir(mode=0o700)
    vm = lab.machines()[-1]
    base = ["-b", str(get_cloud_image(lab)), "-F", "raw"]
    run(["qemu-img", "create", "-q", "-f", "qcow2", *base, str(vm.folder / "os.qcow2")])
    run(["truncate", "-s", f"{DATA_MIB}M", str(vm.folder / "data.raw")])
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", vm.name, "-f", str(vm.folder / "host_key")])
    _write_seed(vm)
    domain = vm.folder / "domain.xml"
    domain.write_text(_SEED_DISK.sub(_CD, DOMAIN).format(**vm.definition()))
    lab.hypervisor.virsh("define", str(domain))
    lab.pin()
    vm.on()
    vm.wait_login(PATIENCE)
    return vm


def get_cloud_image(lab: VmLab) -> Path:
    """Return the base disk of such machines, which nobody can write to."""
    return Path((lab.folder.parent / "image-cloud").read_text().strip()) / "base/disk.raw"


def build_fqdn(vm: Vm) -> str:
    """Return the name that its first seed gives it."""
    return f"{vm.name}.lab.example"


def build_user_data(vm: Vm) -> dict[str, Any]:
    """Return what any machine of the lab gets from its owner: logins and sources of packages."""
    repository = f"http://{vm.address.rpartition('.')[0]}.1:8099/vm"
    key = vm.key.with_suffix(".pub").read_text().strip()
    suites = ("bookworm-security", "bookworm-updates")
    sources = "".join(f"deb [trusted=yes] {repository} {suite} main\n" for suite in suites)
    return {
        "users": [{"name": name, "ssh_authorized_keys": [key]} for name in ("patch", "nosudo", "pwsudo")],
        "apt": {"preserve_sources_list": False, "sources_list": sources},
    }


def _write_seed(vm: Vm) -> None:
    own = {
        "fqdn": build_fqdn(vm),
        "prefer_fqdn_over_hostname": True,
        "manage_etc_hosts": "localhost",
        "bootcmd": [f"echo {vm.definition()['uuid'].replace('-', '')} >/etc/machine-id"],
        "write_files": [{"path": "/etc/resolv.conf", "content": "nameserver 192.0.2.53\nsearch lab.example\n"}],
        "ssh_keys": {
            "ed25519_private": (vm.folder / "host_key").read_text(),
            "ed25519_public": (vm.folder / "host_key.pub").read_text().strip(),
        },
    }
    gateway = f"{vm.address.rpartition('.')[0]}.1"
    nic = {
        "match": {"macaddress": vm.definition()["mac"]},
        "addresses": [f"{vm.address}/24"],
        "gateway4": gateway,
    }
    place = vm.folder / "seed"
    place.mkdir()
    files = {
        "user-data": f"#cloud-config\n{json.dumps(build_user_data(vm) | own)}\n",
        "meta-data": f"instance-id: {vm.name}-of-the-owner\n",
        "network-config": json.dumps({"version": 2, "ethernets": {"nic": nic}}),
    }
    for name, text in files.items():
        (place / name).write_text(text)
    paths = [str(place / name) for name in files]
    words = ["-quiet", "-volid", "cidata", "-joliet", "-rock", "-output", str(vm.folder / "seed.iso")]
    run(["genisoimage", *words, *paths])
