"""What a trained detector is asked beside its scores: whether it uses its latent, and likelihood regret."""
