"""Which packages change what a machine boots with."""

import pytest

from tasks.managers.boot_packages import is_boot_package


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linux-image-6.1.0-30-amd64", True),
        ("kernel-default", True),
        ("kernel-core", True),
        ("grub2-efi", True),
        ("intel-microcode", True),
        ("kernel-headers", False),
        ("linux-libc-dev", False),
        ("openssl", False),
    ],
)
def test_boot_packages_are_known_by_their_names(name: str, expected: bool) -> None:
    assert is_boot_package(name) is expected
