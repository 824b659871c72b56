"""Thin routes: decode, call, encode."""
