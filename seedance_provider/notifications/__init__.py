"""What to tell people of a failure."""
