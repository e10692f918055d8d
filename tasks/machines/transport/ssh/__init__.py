"""SSH: a connection to a POSIX shell with paramiko. Only this package imports paramiko."""
