"""Secret stores: one file each, behind inventory/secret_store.py."""
