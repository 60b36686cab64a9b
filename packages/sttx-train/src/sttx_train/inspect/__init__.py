"""What a run, a checkpoint or a model file holds, explained without loading its weights."""
