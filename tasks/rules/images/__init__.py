"""Decisions about machines that get new OS disks. Pure."""
