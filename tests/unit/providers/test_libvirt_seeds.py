"""The seed of a domain of libvirt: with the new OS disk, on the way back, and an owner's own."""

from collections.abc import Sequence

import pytest

from tasks.domain.errors import ProviderError, ProviderUnavailable
from tasks.domain.provided_machines import ProviderAct
from tests.unit.providers.libvirt_host import IMAGE, LibvirtHost, Machine, build_disk, find_disk

REPLACE, RESTORE, REWRITE = ProviderAct.REPLACE_OS_DISK, ProviderAct.RESTORE_OS_DISK, ProviderAct.REWRITE_SEED
DATA = {"image": IMAGE, "user_data": "#cloud-config\n{}", "network_config": '{"version": 2}'}
OWN = "/d/web.u1.seed.iso"
OWNERS = "/iso/owner.iso"
CD = (
    f"<disk type='file' device='cdrom'><source file='{OWNERS}'/><target dev='sda' bus='sata'/><readonly/>"
    "<address type='drive' unit='3'/></disk>"
)


@pytest.fixture
def host() -> LibvirtHost:
    host = LibvirtHost()
    host.define("web", build_disk("vda", "/d/os.qcow2"), CD)
    host.files[OWNERS].label = "CIDATA"
    host.start("web")
    return host


@pytest.fixture
def web(host: LibvirtHost) -> Machine:
    return host.open("web")


def list_sources(machine: Machine, which: str = "live") -> dict[str, str]:
    return {
        disk.find("target").get("dev"): disk.find("source").get("file")
        for disk in getattr(machine.domain, which).iter("disk")
    }


def test_the_network_and_the_instance_are_in_the_seed(host: LibvirtHost, web: Machine) -> None:
    web.order(REPLACE, "u1", **DATA)
    made = host.seeds[OWN]
    assert (made["instance"], made["network_config"]) == ("web-u1", DATA["network_config"])


def test_an_owners_seed_gives_way_to_ours_in_its_place_and_comes_back(host: LibvirtHost, web: Machine) -> None:
    """Of two seeds, cloud-init reads one alone."""
    web.order(REPLACE, "u1", **DATA)
    assert list_sources(web) == {"vda": "/d/web.vda.u1.qcow2", "sda": OWN}
    assert find_disk(web.domain.live, "sda").find("address").get("unit") == "3"
    web.order(RESTORE, "u1")
    assert list_sources(web) == {"vda": "/d/os.qcow2", "sda": OWNERS}
    assert OWN in host.removed
    assert "put back before" in web.order(RESTORE, "u1")
    web.order(ProviderAct.DELETE_OS_DISK, "u1")
    assert OWNERS in host.files


def test_an_order_that_broke_after_the_seed_still_knows_which_one_the_old_disk_had(
    host: LibvirtHost, web: Machine
) -> None:
    def break_at_the_disk(words: Sequence[str]) -> None:
        if "update-device" in words and list_sources(web, "config")["sda"] == OWN:
            raise ProviderUnavailable("the line is broken")

    host.before = break_at_the_disk
    with pytest.raises(ProviderUnavailable):
        web.order(REPLACE, "u1", **DATA)
    host.before = lambda _words: None
    web.order(REPLACE, "u1", **DATA)
    web.order(RESTORE, "u1")
    assert list_sources(web) == {"vda": "/d/os.qcow2", "sda": OWNERS}


def test_a_cd_without_a_seed_stays(host: LibvirtHost, web: Machine) -> None:
    host.files[OWNERS].label = "Debian 12"
    web.order(REPLACE, "u1", **DATA)
    assert list_sources(web) == {"vda": "/d/web.vda.u1.qcow2", "sda": OWNERS, "vdz": OWN}
    web.order(RESTORE, "u1")
    assert list_sources(web) == {"vda": "/d/os.qcow2", "sda": OWNERS}


def test_an_owners_seed_that_has_gone_keeps_no_machine_from_its_way_back(host: LibvirtHost, web: Machine) -> None:
    web.order(REPLACE, "u1", **DATA)
    del host.files[OWNERS]
    web.order(RESTORE, "u1")
    assert list_sources(web) == {"vda": "/d/os.qcow2"}
    assert "put back before" in web.order(RESTORE, "u1")


def test_a_disk_that_was_put_back_stays_if_its_owner_has_ejected_the_seed(web: Machine) -> None:
    web.order(REPLACE, "u1", **DATA)
    web.order(RESTORE, "u1")
    web.detach("sda")
    assert "put back before" in web.order(RESTORE, "u1")
    assert list_sources(web) == {"vda": "/d/os.qcow2"}


def test_a_revert_to_a_snapshot_brings_the_owners_seed_back(host: LibvirtHost, web: Machine) -> None:
    web.order(ProviderAct.TAKE_SNAPSHOT, "s1")
    web.order(REPLACE, "u1", **DATA)
    web.order(ProviderAct.REVERT, "s1")
    assert list_sources(web)["sda"] == OWNERS


def test_an_owners_seed_that_the_machine_can_write_to_is_refused(host: LibvirtHost) -> None:
    host.define("db", build_disk("vda", "/d/db.qcow2"), build_disk("vdb", "/iso/writable.img"))
    host.files["/iso/writable.img"].label = "cidata"
    host.start("db")
    db = host.open("db")
    with pytest.raises(ProviderError, match="vdb has a seed for cloud-init") as raised:
        db.order(REPLACE, "u1", **DATA)
    assert "readonly" in raised.value.hint
    assert list_sources(db) == {"vda": "/d/db.qcow2", "vdb": "/iso/writable.img"}


def test_a_seed_is_written_again_for_the_same_instance_and_no_other_one_is(host: LibvirtHost, web: Machine) -> None:
    assert "no such seed disk" in web.order(REWRITE, "u1", user_data="#cloud-config\n{}")
    web.order(REPLACE, "u1", **DATA)
    web.order(REWRITE, "u1", user_data="#cloud-config\n{'a': 1}")
    assert (host.seeds[OWN]["instance"], host.seeds[OWN]["user_data"]) == ("web-u1", "#cloud-config\n{'a': 1}")
    web.order(REPLACE, "u2", **DATA)
    assert "no such seed disk" in web.order(REWRITE, "u1", user_data="#cloud-config\n{}")
    assert host.seeds["/d/web.u2.seed.iso"]["instance"] == "web-u2"
