"""A simulated engine: the times, the memory and the hand-offs of a real one, without a model."""
