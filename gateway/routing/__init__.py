"""Which worker does what: pure decisions over a table of the fleet, nothing awaited."""
