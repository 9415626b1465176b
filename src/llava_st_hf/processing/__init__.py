"""Media, prompts, answers and the processor: the files that travel to the Hub as code."""
