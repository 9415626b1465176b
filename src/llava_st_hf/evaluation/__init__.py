"""Evaluation: metrics, protocols, benchmarks and the runner."""
