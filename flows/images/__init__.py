"""Machines that get new OS disks: the file images.yaml, and what is known of its groups."""
