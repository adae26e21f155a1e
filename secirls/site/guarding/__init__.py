"""What a site may still tell: its rules, held against what it knows and has told, over all fits."""
