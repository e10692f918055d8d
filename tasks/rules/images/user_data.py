"""The user-data of the first boot of a new OS disk: the owner's cloud-config, and what keeps the machine's identity."""

import json
import re
from collections.abc import Mapping
from dataclasses import field

from inventory.data_class import dataclass
from tasks.domain.images import ImageModel
from tasks.rules.images.network_config import HostNetwork, build_network_config

_TYPE_PATTERN = re.compile(r"[a-z0-9-]{1,30}")
_PATH_PATTERN = re.compile(r"(/[A-Za-z0-9_-]+)+")
_MACHINE_ID_PATTERN = re.compile(r"[0-9a-f]{32}")
OWN_KEYS = ("ssh_keys", "ssh_deletekeys", "hostname", "fqdn", "prefer_fqdn_over_hostname")
"""Keys of cloud-config that only fleetpatch sets where it keeps the identity."""


@dataclass(frozen=True, slots=True)
class MachineIdentity:
    """What makes a machine known to others. It has secrets, so its text has none of it."""

    name: str = ""
    fqdn: str = ""  # its whole name, as its resolver says
    is_in_hosts: bool = False  # its file of hosts gives the name to 127.0.1.1, so nobody else may know the whole one
    machine_id: str = ""
    machine_id_file: str = ""  # where it is on the machine
    host_keys: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # type -> private and public key
    network: HostNetwork = HostNetwork()

    def __repr__(self) -> str:
        """Return the name alone."""
        return f"MachineIdentity({self.name})"


def explain_missing_identity(model: ImageModel, identity: MachineIdentity) -> str:
    """Return what a machine lacks that its new disk would have to keep, or ""."""
    if model.keeps_host_keys and not any(private for private, _ in identity.host_keys.values()):
        return "its host keys can't be read, so nobody could trust its new OS disk"
    is_id = _MACHINE_ID_PATTERN.fullmatch(identity.machine_id) and _PATH_PATTERN.fullmatch(identity.machine_id_file)
    if model.keeps_machine_id and not is_id:
        return "it has no machine id that could be kept"
    problem = build_network_config(identity.network)[1] if model.keeps_network else ""
    remedy = "(let your image or your user data bring the network, with `identity: {network: false}`)"
    return f"its new OS disk would not have its network: {problem} {remedy}" if problem else ""


def build_first_boot(model: ImageModel, identity: MachineIdentity) -> tuple[str, str]:
    """Return the user-data and the network-config for a new disk; "": it needs none. JSON is YAML, too."""
    network = build_network_config(identity.network)[0] if model.keeps_network else ""
    config = json.loads(model.user_data) if model.user_data else {}
    if model.keeps_host_keys:
        keys = {}
        for kind, (private, public) in sorted(identity.host_keys.items()):
            if _TYPE_PATTERN.fullmatch(kind) and private:
                keys[f"{kind}_private"] = private.rstrip("\n") + "\n"
                keys |= {f"{kind}_public": public.strip()} if public.strip() else {}
        short, name = identity.name.partition(".")[0], identity.name
        fqdn = name if "." in name else identity.fqdn if identity.fqdn.startswith(f"{name}.") else ""
        # without the preference, some systems shorten a whole name
        config |= {"hostname": short, "prefer_fqdn_over_hostname": fqdn == name, "preserve_hostname": False}
        config |= {"fqdn": fqdn} if fqdn else {}
        config |= {"ssh_keys": keys} if keys else {"ssh_deletekeys": False}  # none: they are there already
        if fqdn and identity.is_in_hosts:
            config.setdefault("manage_etc_hosts", "localhost")
    if model.keeps_machine_id:
        write = f"echo {identity.machine_id} >{identity.machine_id_file}"
        config["bootcmd"] = [write, *config.get("bootcmd", [])]
    return (f"#cloud-config\n{json.dumps(config)}\n" if config or network else ""), network
