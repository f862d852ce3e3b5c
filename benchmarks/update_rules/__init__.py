"""Do update rules deliver? The same model, tasks, rollout budget and seeds for each of them."""
