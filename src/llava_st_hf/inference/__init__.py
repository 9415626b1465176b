"""Asking a model: the pipeline, a session of many questions, loading."""
