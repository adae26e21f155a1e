"""Principal components of variance-stabilised values within sites."""
