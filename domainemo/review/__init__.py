"""What is read off finished runs: tables, predictions, importance."""
