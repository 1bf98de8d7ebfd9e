"""Generates answers from prompts whose KV was computed here or elsewhere."""
