"""What crosses a process border: gRPC messages, tickets."""
