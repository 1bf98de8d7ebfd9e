"""Who is in the fleet, how busy they are and what KV blocks they hold, kept over the Redis protocol."""
