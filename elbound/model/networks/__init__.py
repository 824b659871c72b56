"""Encoders and decoders: batched multilayer perceptrons for tables, convolutions for images."""
