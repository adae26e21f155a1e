"""What comes before any regression: who has what, columns put in order, size factors."""
