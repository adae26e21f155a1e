"""How dispersions come about: by moments, gene by gene along their profiles, and drawn towards a trend."""
