"""The bytes that all requests hold together, and memory that is given back."""
