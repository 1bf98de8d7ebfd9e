"""What both roles share: vLLM's engine core behind one gRPC session per gateway."""
