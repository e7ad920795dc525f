"""What the paper prints: every table and figure as one YAML file, and the bases it names."""
