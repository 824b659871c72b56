"""Uploads are decoded by helper processes whose memory and time are limited."""
