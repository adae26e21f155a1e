"""Elementary functions, and the order of floating-point numbers: the same bits on every machine."""
