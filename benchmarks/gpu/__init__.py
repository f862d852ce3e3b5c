"""What only a GPU can show: agreement of engines and learner, memory, and a pretrained model."""
