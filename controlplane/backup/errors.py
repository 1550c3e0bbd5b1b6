"""What goes wrong with backups, for the person at the command line."""


class BackupFailed(Exception):
    """One sentence that says what is wrong and what to do."""
