#!/usr/bin/python3
"""Starts Chromium without news of this machine's networks. CHROMIUM_PROGRAM names the program.

Chromium drops its connections with ERR_NETWORK_CHANGED when any interface gets an address, and other tests make
interfaces. No option of Chromium prevents that. Without a socket of netlink Chromium takes it that the network stays
as it is. A filter of the kernel refuses such sockets to this process and all that it starts.
"""

import ctypes
import os
import platform
import struct
import sys
from typing import Final

AF_NETLINK: Final = 16
EAFNOSUPPORT: Final = 97
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
ALLOW: Final = 0x7FFF0000
REFUSE: Final = 0x00050000 | EAFNOSUPPORT
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
AT_NUMBER, AT_ARCHITECTURE, AT_FAMILY = 0, 4, 16
"""Places in the kernel's struct seccomp_data."""
SOCKET_CALLS: Final = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""By machine: the kernel's number of the architecture, and of the call socket()."""


class Program(ctypes.Structure):
    """The kernel's struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def refuse_netlink(architecture: int, socket_call: int) -> None:
    """Refuse sockets of netlink to this process, and to all that it starts."""
    steps = (
        (LOAD, 0, 0, AT_ARCHITECTURE),
        (JUMP_IF_EQUAL, 0, 5, architecture),
        (LOAD, 0, 0, AT_NUMBER),
        (JUMP_IF_EQUAL, 0, 3, socket_call),
        (LOAD, 0, 0, AT_FAMILY),
        (JUMP_IF_EQUAL, 0, 1, AF_NETLINK),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    )
    packed = b"".join(struct.pack("=HBBI", *step) for step in steps)
    library = ctypes.CDLL(None, use_errno=True)
    program = Program(len(steps), packed)
    if library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or library.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the kernel refuses the filter")


if __name__ == "__main__":
    if platform.machine() in SOCKET_CALLS:
        refuse_netlink(*SOCKET_CALLS[platform.machine()])
    os.execv(os.environ["CHROMIUM_PROGRAM"], [os.environ["CHROMIUM_PROGRAM"], *sys.argv[1:]])
