"""The broker: a program on a machine that runs as root only what the controller has signed."""
