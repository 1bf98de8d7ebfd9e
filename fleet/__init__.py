"""Who is in the fleet, how busy and holding which KV blocks, over the Redis protocol."""
