"""What is asked: one file per benchmark."""
