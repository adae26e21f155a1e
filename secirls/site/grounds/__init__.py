"""What a site or helper stands on, from its own disk: keys, rules, the study that was agreed to."""
