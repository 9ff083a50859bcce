"""Does the spread over seeds have a minimum in λ? The notes' U-shaped variance, refitted honestly."""
