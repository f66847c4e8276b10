"""Statistics and figures of finished runs."""
