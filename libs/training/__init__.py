"""Training: epochs, checkpoints, optimizer, several processes, figures."""
