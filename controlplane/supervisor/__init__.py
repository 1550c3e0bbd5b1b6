"""Keeps the gateway and the background process running, and leaves nothing behind.

`manage.py serve` loads Django once, checks what must be right, and forks: children start in
milliseconds and share memory. They die with the supervisor, are restarted when they die or fall
silent, and stop warm.
"""
