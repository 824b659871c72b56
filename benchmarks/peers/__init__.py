"""The same function behind other servers, each in an environment of its own; none of this is imported by ours."""
