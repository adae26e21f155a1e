"""Commands that a party's own staff runs, on its own machine."""
