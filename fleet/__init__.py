"""Who is in the fleet, kept in Redis or in an embedded Valkey."""
