"""Who may do what, and how much of it: keys, scopes, quotas, and the rules of a server without keys."""
