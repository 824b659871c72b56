"""Bodies to tensors, whole or in pieces."""
