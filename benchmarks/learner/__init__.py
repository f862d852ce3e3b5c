"""What our learner's step costs, against a bare torch loop and TRL's."""
