"""Pages of the console that are apart from their concept's admin.py."""
