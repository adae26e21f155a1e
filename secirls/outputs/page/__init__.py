"""Parts of the page that shows a fit: text, tables, pictures, and the table of all genes."""
