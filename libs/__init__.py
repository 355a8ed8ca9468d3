"""What the three scripts share: configuration, the time loop, losses, training, scores."""
