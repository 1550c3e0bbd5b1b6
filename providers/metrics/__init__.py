"""What providers did lately: rolling figures, for people and for Prometheus."""
