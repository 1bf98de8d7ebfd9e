"""The OpenAI and Anthropic surface over the fleet, and the life of each request."""
