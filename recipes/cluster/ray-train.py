"""One adapter over several GPUs or nodes of a Ray cluster: `prefdelta train` in processes that Ray Train starts.

    pip install prefdelta 'ray[train]'
    python ray-train.py PROCESSES train PAIRS.jsonl --student MODEL -o OUT    # the words of `prefdelta train`

Every node must see the input, the model and the output under the same absolute paths.
"""

import sys

import torch
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer

from prefdelta.cli import app


def train(words: dict[str, list[str]]) -> None:
    """What each process does: its part of the command."""
    app(words["words"], standalone_mode=False)


if __name__ == "__main__":
    processes, *words = sys.argv[1:]
    scaling = ScalingConfig(num_workers=int(processes), use_gpu=torch.cuda.is_available())
    TorchTrainer(train, train_loop_config={"words": words}, scaling_config=scaling).fit()
