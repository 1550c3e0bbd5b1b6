"""`make bench`: this gateway against nginx, the limit, on the same machine in the same run."""
