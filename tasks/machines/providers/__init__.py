"""Providers: hypervisors, volume managers and commands that hold the disks of machines."""
