"""The database as one file, taken while the system runs, and put back where it proves itself.

Secrets are not in it: whoever finds a backup alone can open nothing (bar R17).
"""
