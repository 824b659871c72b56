"""Serving: ours beside an empty POST, a naive scorer and other servers, all real processes on this machine."""
