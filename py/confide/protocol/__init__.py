"""Our own messages: bytes to values and back, strictly. Nothing here does I/O or reads a clock."""
