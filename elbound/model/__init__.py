"""The probabilistic models: networks, likelihoods, priors, and the bounds on the evidence."""
