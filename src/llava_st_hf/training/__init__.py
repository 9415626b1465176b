"""Training with TRL: who trains in each stage, the trainer, recipes, and one run from recipe to checkpoint."""
