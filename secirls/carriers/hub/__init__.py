"""Parties that share nothing: each in a process of its own, which calls a hub and is called by nobody."""
