"""What everything else stands on: data structures, files, images, logs."""
