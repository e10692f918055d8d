"""A machine's texts are shown without the passwords and tokens in them, and with all that is none."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.redaction import redact_text, redact_value

# what apt, dnf, zypper, curl and rpm print (C locale), with a login or a token in the URL; § is the secret
LINES = {
    "apt": "E: Failed to fetch http://me:§@deb.example/debian/dists/x/InRelease  401  Unauthorized [IP: 10.0.0.1 80]",
    "apt, @ in the password": "Could not resolve '§@deb.example'",
    "apt's configuration": 'Acquire::http::Proxy "http://me:§@proxy.example:3128";',
    "apt's auth.conf": "machine deb.example login me password §",
    "apt, which decodes the login": "W: Failed to fetch http://me:626/§@deb.example/x/InRelease  Unable to connect to",
    "apt, a host without a domain": "W: Failed to fetch http://me:626/§@mirror/x/InRelease  Unable to connect to",
    "apt, which drops what is no port": "W: Failed to fetch http://me/§@deb.example/x/InRelease  404  Not Found",
    "apt, a user with a dot": "W: Failed to fetch http://a.me/§@deb.example/x/InRelease  404  Not Found",
    "dnf": "  - Status code: 401 for http://me:§@rpm.example/repodata/repomd.xml (IP: 10.0.0.1)",
    "dnf, without a user": "Error: Failed to download metadata for repo 'x': https://§@rpm.example/x, https://h/y",
    "curl": "Curl error (5): Couldn't resolve proxy name for https://h/x [Could not resolve proxy: me:§@proxy]",
    "curl's proxy": "curl: (5) Could not resolve proxy: §@proxy.example",
    "dnf's configuration": "proxy_password=§",
    "dnf's parser": "Warning: failed loading '/etc/yum.repos.d/x.repo', skipping: [line  5]: 'password = §\\n'",
    "zypper": "Download (curl) error for 'https://me:§@rpm.example/x/repodata/repomd.xml?ssl_verify=no':",
    "zypper's XML": '<repo alias="x" enabled="1"><url>http://me:§@rpm.example/x</url></repo>',
    "SUSE's update server": "Location 'https://dl.suse.com/SUSE/x/?§' is temporarily unaccessible.",
    "a token": "Error 403: https://rpm.example/x?arch=x86_64&token=§).",
    "a token in XML": '<url uri="https://rpm.example/x?arch=x86_64&amp;auth=§"/>',
    "JSON": '{"url":"http:\\/\\/me:§@rpm.example\\/x","mail":"me@example.com"}',
    "IPv6": "http://me:§@[2001:db8::1]:8080/x",
    "the name of a file": "/var/cache/x/http%3A%2F%2Fme%3A§%40rpm.example%2Fx",
    "a parameter": "https://proxy.example/fetch?url=http%3a%2f%2fme%3a§%40rpm.example",
    "the environment": "https_proxy=me:§@proxy.example:3128",
    "a command line": "curl -x me:§@proxy.example:3128 https://h/x",
    "a header": "Proxy-Authorization: Basic §",
    "a publisher's path": "https://packagecloud.io/priv/§/x/el/9/x86_64",
    "another publisher's path": "Get:3 https://dl.cloudsmith.io/§/org/repo/deb/debian bookworm InRelease",
    "CR and LF": "E: http://me:§@h/x\r\nE: next\r",
    "cut at its end": "E: Failed to fetch http://me:§",
}
INNOCENT = (
    "me@example.com",
    "Maintainer: Ann <ann@example.com>",
    "user@1000.service",
    "npm:@scope/name@1.2.3",
    "nodejs@18",
    "http://npm.example:8080/@scope/name@1.2.3",
    "docker://registry:5000/x@sha256:0123456789abcdef",
    "docker://quay.example/x/y@sha256:0123456789abcdef",
    "https://lists.example/msgid/20261126.x@example.com",
    "http://localhost:8080/@scope/name@1.2.3",
    "http://[2001:db8::1]:8080/x@1",
    "docker.io/x:tag@sha256:0123456789abcdef",
    "pkg:deb/debian/curl@7.50",
    "git@github.com:org/x",
    "password: authentication failed",
    "sudo: a password is required",
    "https://mirrors.example/mirrorlist?arch=x86_64&repo=baseos-9",
    "https://bugzilla.example/show_bug.cgi?id=1234567",
    "libsecret-1-0 0.20.5-3",
    "passwd 1:4.13",
    "Is this ok [y/N]?",
    "bash-0:5.1.8-9.el9.x86_64 @System",
    "2024-01-01T10:00:00",
    "https://dl.cloudsmith.io/public/org/repo",
    "http://deb.example:80: refused",
    "Connecting to deb.example (1.2.3.4)",
    "cdrom:[Debian 12]/ bookworm",
    '{"url":"http://h","mail":"a@b"}',
    "http://h/pool/x_1.0~rc1+b1_amd64.deb",
    "proxy: none",
)
# no white space: no program would take it, and no URL has it
PASSWORDS = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="<>"), min_size=6, max_size=40
)
PLAIN = st.text("abcXYZ019_~-.!$*+", min_size=5, max_size=40).map("Z".__add__)


@pytest.mark.parametrize("name", LINES)
def test_a_secret_is_not_shown(name: str) -> None:
    for secret in ("gEhEim-123", "a" * 250, "p%40ss%2Fw0rd"):
        text = redact_text(LINES[name].replace("§", secret))
        assert secret not in text
        assert "***" in text
        assert redact_text(text) == text


@pytest.mark.parametrize("text", INNOCENT)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_text(text) == text


@given(
    PASSWORDS, st.sampled_from(["http://me:{}@h.example/x", "E: 'https://me:{}@[::1]:80/x' failed", "http://me:{}@h"])
)
def test_any_password_is_hidden_encoded_or_not(password: str, url: str) -> None:
    encoded = quote(password, safe="")
    assert encoded not in redact_text(url.format(encoded)).replace("me", "")
    # a quote that ends the URL can't be told from the end of a text
    if not any(mark in password for mark in "\"'"):
        assert password not in redact_text(url.format(password))


@pytest.mark.parametrize("password", ["0000}#", "0000}/", "80).?", "1:&/x", "000}0/", "@0000#", "a@b/c", "@80:x#"])
def test_a_password_that_looks_like_a_port_or_a_host_is_hidden(password: str) -> None:
    assert redact_text(f"http://me:{password}@h.example/x") == "http://***@h.example/x"


@given(PLAIN, st.sampled_from(sorted(LINES)), st.text(max_size=20), st.text(max_size=20))
def test_the_text_around_does_not_matter(secret: str, name: str, before: str, after: str) -> None:
    line = LINES[name].replace("§", secret)
    assert secret not in redact_text(f"{before}\n{line}\n{after}")


@given(st.text())
def test_any_text_is_read_and_read_twice_is_the_same(text: str) -> None:
    once = redact_text(text)
    assert redact_text(once) == once
    assert once.count("\n") == text.count("\n")


@pytest.mark.parametrize(
    "unit", ["://", "://a:b", "://a?", "%3A%2F%2F", "proxy:", "resolve ", "token=", 'password="', "a:b@"]
)
def test_a_hostile_text_takes_no_longer_than_its_length(unit: str) -> None:
    assert len(redact_text(unit * (200_000 // len(unit)) + "@")) > 0  # minutes, if a search began at each place anew


def test_records_are_redacted_at_any_depth() -> None:
    record = {"kind": "x", "list": [{"url": "http://me:S3cret@h/x"}, 3, None], "http://me:S3cret@h": True}
    assert redact_value(record) == {"kind": "x", "list": [{"url": "http://***@h/x"}, 3, None], "http://***@h": True}
