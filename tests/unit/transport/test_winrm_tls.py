"""The TLS settings of a connection to WinRM."""

import ssl
from pathlib import Path

from inventory.machine import WinrmAuthentication, WinrmSettings
from tasks.machines.transport.winrm.tls import build_tls_context, describe_certificate
from tests.lab.windows.certificates import Authority


def test_a_login_by_certificate_is_not_over_tls_1_3_where_winrm_resets_it(tmp_path: Path) -> None:
    certificate = Authority(tmp_path).for_host("client")
    settings = WinrmSettings(
        authentication=WinrmAuthentication.CERTIFICATE,
        client_certificate=certificate.chain,
        certificate_thumbprint=("0",),
    )
    context = build_tls_context(settings, certificate.key)
    assert context.maximum_version is ssl.TLSVersion.TLSv1_2
    assert not context.options & ssl.OP_NO_RENEGOTIATION  # by which Windows asks for it
    assert build_tls_context(WinrmSettings()).maximum_version is not ssl.TLSVersion.TLSv1_2


def test_a_shown_certificate_is_described_whatever_it_is(tmp_path: Path) -> None:
    certificate = Authority(tmp_path).for_host("win\x1b[31m-1")
    said = describe_certificate(certificate.der)
    assert certificate.sha256 in said
    assert certificate.thumbprint in said
    assert "issued by Test authority" in said
    assert "\x1b" not in said
    assert "SHA-256" in describe_certificate(b"no certificate")
