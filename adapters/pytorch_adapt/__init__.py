"""Methods of the library pytorch-adapt as adapters, on any network."""
