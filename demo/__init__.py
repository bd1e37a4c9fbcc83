"""``make demo``: a tour with real pictures."""
