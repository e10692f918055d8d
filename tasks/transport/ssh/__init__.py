"""SSH: a line to a POSIX shell over paramiko. Nothing outside of this package knows paramiko."""
