"""Annotators: sentence to label, one file each, found by name (`spec`)."""
