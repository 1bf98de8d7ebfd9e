"""Measurements and load, over HTTP only: nothing of ours is imported here."""
