"""Which listeners are services, and which of them are gone: rules on what machines tell, old records among them."""

import pytest

from tasks.domain.model import Services
from tasks.domain.states import FindingLevel
from tasks.rules.machine_checks.listeners import ListeningSocket, find_service_listeners
from tasks.rules.machine_checks.services import check_services

NGINX = ListeningSocket("tcp/443", 0, "nginx", "/system.slice/nginx.service")
SSHD = ListeningSocket("tcp/22", 0, "sshd", "/system.slice/ssh.service")


def services(*sockets: ListeningSocket, failed: tuple[str, ...] = (), **ports: str) -> Services:
    found = find_service_listeners(sockets, **ports)
    return Services(failed, tuple(dict.fromkeys(each.name for each in found)), listeners=found)


def blocked(before: Services, after: Services) -> str:
    return "; ".join(each.message for each in check_services(before, after) if each.level is FindingLevel.BLOCK)


@pytest.mark.parametrize(
    "socket",
    [
        ListeningSocket("udp/45123", 0, "chronyd", "/system.slice/chrony.service"),
        ListeningSocket("tcp/40000", 0, "vsftpd", "/system.slice/vsftpd.service"),
        ListeningSocket("tcp/8080", 1000, "python3", "/user.slice/user-1000.slice/session-3.scope"),
        ListeningSocket("tcp/8080", 0, "python3", "/user.slice/user-0.slice/session-4.scope"),
        ListeningSocket(
            "tcp/8080", 1000, "node", "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service"
        ),
        ListeningSocket("tcp/8080", 1000, "python3", "/system.slice/ssh.service"),  # a login without a session's scope
        ListeningSocket("tcp/8080", 1000, "sshd", "/system.slice/ssh.service"),  # a port that a login forwards
        ListeningSocket(
            "tcp/8080", 0, "sh", "/system.slice/system-sshd.slice/sshd@7-10.0.0.1:22-10.0.0.2:4242.service"
        ),
        ListeningSocket("tcp/8080", 1001, "nc", "/system.slice/cron.service"),
        ListeningSocket("tcp/8080", 1001, "nc", "/system.slice/atd.service"),
        ListeningSocket("tcp/8080", 1001, "nc"),  # no service manager
        ListeningSocket("tcp/8080", 1001),  # it has ended between two looks
    ],
)
def test_what_is_no_service_never_fails_a_machine(socket: ListeningSocket) -> None:
    assert blocked(services(SSHD, socket), services(SSHD)) == ""


@pytest.mark.parametrize(
    ("socket", "told"),
    [
        (NGINX, "tcp/443 (nginx of nginx.service)"),
        (SSHD, "tcp/22 (sshd of ssh.service)"),
        (ListeningSocket("tcp/8080", 1001, "java", "/system.slice/shop.service"), "tcp/8080 (java of shop.service)"),
        (ListeningSocket("tcp/8080", 0, "java", "/system.slice/docker-4f.scope"), "tcp/8080 (java of docker-4f.scope)"),
        (ListeningSocket("tcp/2049", 0), "tcp/2049"),  # the kernel's own
        (ListeningSocket("tcp/22", 0, "systemd", "/init.scope"), "tcp/22 (systemd)"),
        (ListeningSocket("tcp/80", 33, "httpd", "/"), "tcp/80 (httpd)"),
        (ListeningSocket("tcp/53", 65534, "dnsmasq", ""), "tcp/53 (dnsmasq)"),
        (ListeningSocket("tcp/9", None), "tcp/9"),
        (ListeningSocket("udp/123", 0, "ntpd", "/system.slice/ntp.service"), "udp/123 (ntpd of ntp.service)"),
    ],
)
def test_a_service_that_is_gone_blocks_and_is_named(socket: ListeningSocket, told: str) -> None:
    assert blocked(services(socket), services()) == f"nothing listens any more on {told}"


def test_a_users_program_does_not_stand_in_for_a_service() -> None:
    stranger = ListeningSocket("tcp/8080", 1000, "nc", "/user.slice/user-1000.slice/session-3.scope")
    shop = ListeningSocket("tcp/8080", 999, "java", "/system.slice/shop.service")
    assert "java of shop.service" in blocked(services(shop), services(stranger))
    assert blocked(services(shop, stranger), services(shop)) == ""


def test_the_range_is_the_machines_own_but_for_what_its_administrator_reserved() -> None:
    java = ListeningSocket("tcp/50000", 999, "java", "/system.slice/shop.service")
    assert blocked(services(java), services()) == ""
    assert "tcp/50000" in blocked(services(java, ephemeral="32768\t49999"), services())
    assert "tcp/50000" in blocked(services(java, ephemeral="32768\t60999", reserved="8080,49999-50001"), services())
    assert blocked(services(ListeningSocket("tcp/9000", 0, "x"), ephemeral="1024\t65000"), services()) == ""
    assert "tcp/443" in blocked(services(NGINX, ephemeral="nonsense", reserved="-,9-"), services())


def test_an_rpc_service_that_takes_another_port_at_each_start_is_not_gone() -> None:
    def statd(port: int, protocol: str = "udp") -> ListeningSocket:
        return ListeningSocket(f"{protocol}/{port}", 0, "rpc.statd", "/system.slice/rpc-statd.service")

    assert blocked(services(statd(786)), services(statd(901))) == ""
    assert "rpc.statd" in blocked(services(statd(786)), services(statd(901, "tcp")))
    assert "rpc.statd" in blocked(services(statd(786), statd(901)), services(statd(901)))
    assert "nginx" in blocked(services(NGINX), services(ListeningSocket("tcp/8443", 0, "nginx", NGINX.cgroup)))


@pytest.mark.parametrize(
    "unit",
    [
        "user@1000.service",
        "user-runtime-dir@1000.service",
        "ssh@3-10.0.0.1:22-10.0.0.9:4711.service",
        "systemd-coredump@1-4242-0.service",
    ],
)
def test_a_unit_of_somebodys_login_or_connection_that_failed_does_not_fail_the_machine(unit: str) -> None:
    assert blocked(services(), services(failed=(unit,))) == ""
    assert "nginx.service" in blocked(services(), services(failed=(unit, "nginx.service")))
    assert "getty@tty1.service" in blocked(services(), services(failed=("getty@tty1.service",)))
