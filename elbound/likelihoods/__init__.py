"""p(x|z): what the decoder's numbers mean."""
