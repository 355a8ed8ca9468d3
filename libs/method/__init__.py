"""The method of the papers: the time loop, its memory, the cycle, and the losses."""
