"""Many small symmetric systems at once: solved, restricted, put in a box, taken apart into eigenvectors."""
