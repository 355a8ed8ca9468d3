"""Data sets on disk, turned into training clips and test videos."""
