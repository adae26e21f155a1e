"""The fit as questions: public data that travels, and generators that ask and are told sums."""
