"""The method of the papers. Read it in this order: propagate, memory_bank, cycle, losses, objective.

`propagate` is the time loop, `memory_bank` the memory that it carries, `cycle` the way back to the reference
frame (as a loss and as gradient correction), `losses` the loss of one frame, and `objective` what training
minimizes. `attention` is an extra loss that neither paper has. The network is in models/stm.py; docs/paper.md
maps equations to functions.
"""
