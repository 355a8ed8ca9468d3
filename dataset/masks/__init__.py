"""What the values in a mask file mean: decoding it, what it shows by itself, what it means in its video."""
