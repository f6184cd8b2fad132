"""The stories: plant, tear down, check."""
