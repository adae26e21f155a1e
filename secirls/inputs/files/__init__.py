"""Files of sites and users: AnnData through its one door, text, and what is said of those that can't be read."""
