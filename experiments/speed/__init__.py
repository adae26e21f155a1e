"""How fast it is: every figure of the page on speed, as a ratio to a baseline that runs beside it."""
