"""Sums of gradients over processes that Gloo connects."""

from pathlib import Path

import torch

from tests.helpers.subprocess_runner import start_group

PROCESSES = 3
SCRIPT = """
import sys
import torch
from libs.core.distributed import join_processes
from torch import nn

processes = join_processes("gloo", "env://")
torch.manual_seed(processes.rank)
parameters = [nn.Parameter(torch.zeros(size)) for size in ((40, 3), (7,), (2,), (5,))]
parameters[2].requires_grad_(False)
if processes.rank < 2:  # the last process has no clips, hence no gradients
    parameters[0].grad = torch.randn(40, 3)
if processes.rank == 1:  # a parameter that only the clips of one process have used
    parameters[1].grad = torch.randn(7)
own = [p.grad for p in parameters]
processes.sum_gradients(parameters)
torch.save({"own": own, "sum": [p.grad for p in parameters]}, f"{sys.argv[1]}/{processes.rank}.pt")
processes.leave()
"""


def test_gradients_are_summed_and_missing_ones_are_zero(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    started = start_group(tmp_path / "script.py", PROCESSES, tmp_path)
    for process in started:
        process.wait().check_success()
    saved = [torch.load(tmp_path / f"{rank}.pt") for rank in range(PROCESSES)]
    matrix, vector, frozen, unused = saved[0]["sum"]
    torch.testing.assert_close(matrix, saved[0]["own"][0] + saved[1]["own"][0])
    assert torch.equal(vector, saved[1]["own"][1])
    assert frozen is None and torch.equal(unused, torch.zeros(5))
    for other in saved[1:]:  # to the last bit, or the weights of the processes would drift apart
        assert other["sum"][2] is None
        assert all(torch.equal(other["sum"][i], saved[0]["sum"][i]) for i in (0, 1, 3))
