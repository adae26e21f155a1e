"""Who leads: the one loop, what survives an interruption, what can be checked afterwards."""
