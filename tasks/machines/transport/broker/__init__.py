"""The broker: a program on a machine that runs as root only what the controller has signed."""

from typing import Final

BROKER_PATH: Final = "/usr/local/sbin/fleetpatch-broker"
