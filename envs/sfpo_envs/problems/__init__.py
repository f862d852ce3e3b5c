"""Problem sets: read from files and hubs or drawn without end, split, shuffled and shown."""
