"""What the floors above share: files that are written whole, manifests of runs, tables."""
