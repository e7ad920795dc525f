"""What lies on disk: files written whole, folders with lock and manifest, checked records and tensors, ledgers."""
