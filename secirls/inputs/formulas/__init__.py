"""What a formula says, which levels its factors have, and the columns that follow."""
