"""The paper's tables and figures as data, and what runs them again: ``perfit reproduce`` (docs/reproduction.md)."""
