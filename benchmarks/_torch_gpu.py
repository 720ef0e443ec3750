"""LeNet-5 in PyTorch as it is fast on a GPU: what `gpu.py` compares with."""

from importlib import import_module
from typing import Any, ClassVar

import numpy as np
from _arrays import mask, normalized, tables, unfold

from lenet.data import Dataset
from lenet.executors import EpochPlan, Executor
from lenet.initialize import initialize
from lenet.network import Network
from lenet.settings import Settings


class TorchEager:
    """Steps of the default training; all data on the GPU, distortion for a whole batch, Adam fused."""

    name: ClassVar[str] = "PyTorch eager"

    def __init__(self, network: Network, settings: Settings, data: Dataset, plan: EpochPlan, device: Any) -> None:
        self.torch = torch = import_module("torch")
        self._network, self._data, self._plan, self._device = network, data, plan, device
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32, as lenet computes
        training = settings.training
        weights = initialize(network, training.initialization, training.seed).astype(np.float32)
        self._parameters = [
            torch.from_numpy(array).to(device).requires_grad_() for array in unfold(network, weights).values()
        ]
        self._average = [parameter.detach().clone() for parameter in self._parameters]
        self._mask = torch.from_numpy(mask(tables(network)["C3.weight"])).to(device)
        self._rate = torch.tensor(training.learning_rate, device=device)
        graph = device.type == "cuda"
        self._optimizer = torch.optim.Adam(
            self._parameters, lr=self._rate, betas=(training.beta1, training.beta2), eps=training.epsilon,
            capturable=graph, fused=True,
        )  # fmt: skip
        self._images = torch.from_numpy(data.train_images[:, None]).to(device).float() / 255
        self._labels = torch.from_numpy(data.train_labels).to(device).long()
        assert plan.transforms is not None
        self._order = torch.from_numpy(plan.order).to(device).long()
        self._theta = torch.from_numpy(normalized(plan.transforms, data.height, data.width)).to(device)
        self._hyper = torch.from_numpy(plan.hyper.astype(np.float32)).to(device)
        self._batch = torch.arange(plan.batch_size, device=device)
        self._step = torch.zeros((), dtype=torch.long, device=device)

    def _train_step(self) -> None:
        """Train on the batch that `_step`, a number on the device, points to."""
        torch, functional = self.torch, self.torch.nn.functional
        place = self._step * self._plan.batch_size + self._batch
        index, hyper = self._order[place], self._hyper[self._step]
        self._rate.copy_(hyper[0])
        grid = functional.affine_grid(self._theta[place], [len(place), 1, *self._images.shape[2:]], align_corners=True)
        x = functional.grid_sample(self._images[index], grid, align_corners=True)
        loss = functional.cross_entropy(self._forward(x), self._labels[index])
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()
        self._optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self._average, self._parameters, 1 - hyper[3])
        self._step += 1

    def _forward(self, x: Any) -> Any:
        functional = self.torch.nn.functional
        w1, b1, w3, b3, w5, b5, w6, b6, w7, b7 = self._parameters
        x = functional.avg_pool2d(functional.conv2d(x, w1, b1).sigmoid(), 2)
        x = functional.avg_pool2d(functional.conv2d(x, w3 * self._mask, b3).sigmoid(), 2)
        x = functional.linear(x.flatten(1), w5, b5).sigmoid()
        x = functional.linear(x, w6, b6).sigmoid()
        return functional.linear(x, w7, b7)

    def run(self) -> None:
        """Run all steps of the plan."""
        self._step.zero_()
        for _ in range(self._plan.steps):
            self._train_step()
        self._wait()

    def _wait(self) -> None:
        if self._device.type == "cuda":
            self.torch.cuda.synchronize()

    def error(self, executor: Executor) -> float:
        """Return how far the logits of some test images are off an executor's with the same first weights."""
        images = self._data.test_images[:16]
        weights = executor.read().parameters
        with self.torch.no_grad():
            for parameter, array in zip(self._parameters, unfold(self._network, weights).values(), strict=True):
                parameter.copy_(self.torch.from_numpy(array))
            x = self.torch.from_numpy(images[:, None]).to(self._device).float() / 255
            ours = self._forward(x).cpu().numpy()
        theirs = executor.read().average
        assert theirs is None or np.array_equal(theirs, weights), "a fresh executor averages its first weights"
        logits = executor.predict(images)
        return float(np.linalg.norm(ours - logits) / np.linalg.norm(logits))


class TorchGraph(TorchEager):
    """The same, one step recorded as a CUDA graph and replayed: the host launches once a step."""

    name = "PyTorch CUDA graph"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        torch = self.torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # compiles, chooses algorithms and allocates, before anything is recorded
            for _ in range(3):
                self._train_step()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._train_step()

    def run(self) -> None:
        self._step.zero_()
        for _ in range(self._plan.steps):
            self._graph.replay()
        self._wait()
