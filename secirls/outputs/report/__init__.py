"""What a fit's report says beside its tables: facts, the design in words, and what was disclosed to whom."""
