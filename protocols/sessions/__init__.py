"""Who is at the table, what they have set alike, what each demands, and how they reach each other."""
