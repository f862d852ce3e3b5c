"""Wall-clock to an accuracy where replies are long: sampling costs several passes."""
