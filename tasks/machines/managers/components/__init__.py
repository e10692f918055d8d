"""Components of a machine: how each kind is asked for its version, downloaded, installed and put back."""
