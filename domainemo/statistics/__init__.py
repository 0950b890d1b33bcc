"""Statistics over subjects: intervals, paired comparisons, ranks, combinations."""
