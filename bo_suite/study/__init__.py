"""A study: suggests the next points, given trials."""
