"""What is claimed about speed, memory and learning, measured."""
