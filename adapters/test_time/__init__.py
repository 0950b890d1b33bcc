"""What changes a trained network by the target alone, without the source."""
