"""One published data set a file, each read as its publisher lays it out."""
