"""A fit's numbers by gene: what is kept of them, what is compared, and the tables that are made."""
