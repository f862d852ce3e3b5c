"""What a user's own package looks like to sfpo_rllib, which knows nothing of it."""
