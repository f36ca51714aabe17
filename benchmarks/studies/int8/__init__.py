"""What does INT8 cost, and which way to make it costs least: accuracy, time, and the placement on a GPU."""
