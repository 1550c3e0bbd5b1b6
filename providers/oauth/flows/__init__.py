"""Pure step machines of the vendors' logins: what to ask next, and what an answer means."""
