"""The doors to AnnData files and formulas, and small data to begin with."""
