"""What lies on disk and must not change unnoticed: checked records, checked tensors, ledgers."""
