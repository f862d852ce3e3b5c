"""What an update rule costs over the single pass: memory and time."""
