"""What a personal shift does to everything else a base can: general tasks, and next tokens of neutral text."""
