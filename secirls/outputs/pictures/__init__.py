"""Pictures of a fit, from its public tables alone: one file per family of figures."""
