"""Search for settings on users' held-out history."""
