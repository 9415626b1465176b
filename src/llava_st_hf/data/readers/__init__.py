"""Readers of annotation files: each turns one published or own format into canonical records."""
