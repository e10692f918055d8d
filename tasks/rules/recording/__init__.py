"""What stands in a recording of a machine in place of its names. Pure."""
