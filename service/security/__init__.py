"""Who may call, how often, with how much, and what a browser may do with the answer."""
