"""What a site computes of its own design columns, so that the table need not know them."""
