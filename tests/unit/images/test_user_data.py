"""The user-data of a new OS disk: what cloud-init is told of the machine's name, keys and id."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tasks.domain.images import ImageModel
from tasks.rules.images.network_config import HostNetwork
from tasks.rules.images.user_data import MachineIdentity, build_first_boot

MODEL = ImageModel("debian/12/stable")
KEYS = {"ed25519": ("secret", "ssh-ed25519 AAAA root@web1")}
WEB = MachineIdentity("web1", host_keys=KEYS, machine_id="a" * 32, machine_id_file="/etc/machine-id")
STATIC = [{"family": "inet", "local": "192.0.2.9", "prefixlen": 24, "scope": "global"}]
LINKS = json.dumps([{"ifname": "eth0", "link_type": "ether", "address": "52:54:00:00:00:01", "addr_info": STATIC}])


def build(identity: MachineIdentity, model: ImageModel = MODEL) -> Any:
    return json.loads(build_first_boot(model, identity)[0].removeprefix("#cloud-config\n"))


@pytest.mark.parametrize(
    ("name", "fqdn", "hostname", "whole", "is_preferred"),
    [
        ("web1", "", "web1", None, False),
        ("web1", "web1", "web1", None, False),
        ("web1", "localhost", "web1", None, False),
        ("web1", "web1.example.org", "web1", "web1.example.org", False),  # as on Debian
        ("web1.example.org", "web1.example.org", "web1", "web1.example.org", True),  # as on RHEL
        ("web1.example.org", "", "web1", "web1.example.org", True),
    ],
)
def test_a_name_stays_as_short_or_as_whole_as_it_is(
    name: str, fqdn: str, hostname: str, whole: str | None, is_preferred: bool
) -> None:
    config = build(replace(WEB, name=name, fqdn=fqdn))
    assert (config["hostname"], config.get("fqdn")) == (hostname, whole)
    assert (config["prefer_fqdn_over_hostname"], config["preserve_hostname"]) == (is_preferred, False)


@pytest.mark.parametrize(
    ("is_in_hosts", "of_owner", "written"), [(True, "", "localhost"), (True, "x", "x"), (False, "", None)]
)
def test_the_line_of_etc_hosts_comes_if_it_was_there_and_the_owners_word_counts(
    is_in_hosts: bool, of_owner: str, written: str | None
) -> None:
    model = replace(MODEL, user_data=json.dumps({"manage_etc_hosts": of_owner}) if of_owner else "")
    config = build(replace(WEB, fqdn="web1.example.org", is_in_hosts=is_in_hosts), model)
    assert config.get("manage_etc_hosts") == written


def test_a_static_network_alone_makes_a_seed_and_nothing_to_keep_makes_none() -> None:
    none = replace(MODEL, keeps_host_keys=False, keeps_machine_id=False)
    web = replace(WEB, network=HostNetwork(LINKS, "[]", "[]"))
    user_data, network_config = build_first_boot(none, web)
    assert user_data == "#cloud-config\n{}\n"
    assert json.loads(network_config)["ethernets"]["eth0"]["addresses"] == ["192.0.2.9/24"]
    assert build_first_boot(replace(none, keeps_network=False), web) == ("", "")
