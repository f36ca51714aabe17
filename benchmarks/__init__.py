"""Host side: latency and accuracy measurements."""
