"""Looking at recordings before anything is trained: what is wrong, what is there."""
