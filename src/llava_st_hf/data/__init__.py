"""Training data: the canonical record, what reads it from files, mixes it, skips, batches and publishes it."""
