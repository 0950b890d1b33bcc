"""Learning from the network's own opinion of the target."""
