"""Methods in which the network and a discriminator work against each other."""
