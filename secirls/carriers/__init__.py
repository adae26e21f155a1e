"""What takes messages from one party to the other: within one process, or over Ray."""
