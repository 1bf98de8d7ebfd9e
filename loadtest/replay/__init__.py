"""Replays request traces against a gateway: readers, an open-loop client, figures, a plot."""
