"""Changes who patches machines in the inventory's own files. Nothing else in them changes, not even a blank."""
