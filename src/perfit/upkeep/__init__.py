"""What a run keeps of its users, looked through: damage is found, and what nothing points at is swept."""
