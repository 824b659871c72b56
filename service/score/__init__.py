"""`POST /score`: one endpoint, one frame, and three ways to score: a shared batch, a held upload, a stream."""
