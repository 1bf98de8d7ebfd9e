"""Moves KV blocks from a prefill worker's paged cache into a decode worker's."""
