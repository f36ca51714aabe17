"""Which model fits which board, estimated from published and measured latencies."""
