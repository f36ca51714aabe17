"""Getting back the accuracy that rounding loses, and finding the layers that lose it."""
