"""What waits for what between environments, engines and learners, and how long."""
