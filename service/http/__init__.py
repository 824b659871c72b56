"""Bytes to requests and answers: nothing here knows of models."""
