"""What the commands on data do: check, show, stats, convert, publish."""
