# Variables for commands that may call the package manager: the Windows Update Agent needs none.
# Step: connect
# Changes: nothing
