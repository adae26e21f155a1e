"""How people ask: the command, the federation file, and what the terminal shows."""
