"""What a model costs: multiply-adds and parameters counted, latency and throughput measured."""
