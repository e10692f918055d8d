"""Providers: hypervisors, clouds and volume managers that hold the disks of machines."""
