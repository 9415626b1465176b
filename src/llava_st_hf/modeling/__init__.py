"""Configuration, coordinates, packer and model: the files that travel to the Hub as code."""
