"""What a state directory has: its archives, listed, looked up by what people call them, and forgotten."""
