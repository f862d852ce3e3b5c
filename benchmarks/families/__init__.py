"""Which model families each engine computes as the learner does; see `__main__`."""
