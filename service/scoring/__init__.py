"""Tensors to decided and explained items."""
