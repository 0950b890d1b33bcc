"""From raw signals to features: band entropy, smoothing, measures of the body."""
