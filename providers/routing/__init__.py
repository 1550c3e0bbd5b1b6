"""Where a request may go."""
