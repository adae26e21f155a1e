"""How a local Ray of our own starts its processes with less to load."""
