"""One idempotent call each, with its retry policy and one log line."""
