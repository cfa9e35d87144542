"""Training steps and losses, checkpoints, and the measures and reports of a run."""
