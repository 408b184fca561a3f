"""A node under attack: what small requests of many connections cost it, and an honest client meanwhile."""
