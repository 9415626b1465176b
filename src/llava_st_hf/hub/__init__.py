"""What goes to the Hub: cards."""
