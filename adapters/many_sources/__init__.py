"""Methods that tell one source subject from another."""
