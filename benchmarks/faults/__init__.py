"""What a run survives: killed runners, killed drivers, and thousands of iterations of it."""
