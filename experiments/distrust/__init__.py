"""What each layer of distrust costs, and which attack it stops."""
