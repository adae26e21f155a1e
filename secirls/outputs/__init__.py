"""What people read after a fit: tables, the report, what was disclosed, figures."""
