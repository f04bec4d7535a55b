"""A generator cut at a layer, so that a search can go on in its activations (ILO, Daras et al. 2021, 2102.07364)."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node, Tracer

from latentopt.arguments import checked
from latentopt.errors import InputError, first_line, with_nearest
from latentopt.inverse.extra_latents import ExtraLatents
from latentopt.networks.checks import empty_like_parameters
from latentopt.networks.freezing import frozen
from latentopt.networks.generator import Generator
from latentopt.networks.outputs import module_of

LATENTS = "latents"
"""Name of latents that have none, where they enter after a layer too."""
CHUNK = 16
"""Greatest number of latents in a forward that draws activations."""


@checked
def split(generator: Generator, at: str | int) -> tuple[Generator, Generator]:
    """Cut a generator at a layer in two: from latents to the layer's activations, and from these to images.

    Both are generators, which share the module's weights: all that takes latents takes activations as well. Those of
    the second are distributed as the first makes them; a search starts as far from their mean as among the latents,
    ``start_scale`` times.

    Args:
        generator: its module is one that `torch.fx` can trace from the outside down to the layer.
        at: name of a module in the generator's, as `torch.nn.Module.named_modules` has it, such as ``layers.3``, or 3
            in an `torch.nn.Sequential`. It is called once, and returns a tensor of floating-point numbers (B, ...).

    Returns:
        ``before`` and ``after``: ``after(before(z))`` is ``generator(z)``. Where latents enter after the layer too, as
        styles do, those of ``after`` have parts: the activations by the layer's name, and these latents, whose name is
        ``latents`` if they have none. ``before`` returns them all as one vector.

    Raises:
        InputError: there is no such layer, it is not called once, or its output is no tensor; or the module cannot be
            traced.
    """
    return Layers(generator, [str(at)], "at").halves(str(at))


class Layers:
    """Layers at which a generator may be cut.

    Args:
        generator: the generator.
        names: of the layers, the first one first.
        argument: name of the argument that they are, for messages.

    Raises:
        InputError: as in `split`; or the layers are not in the order in which they are called.
    """

    def __init__(self, generator: Generator, names: Sequence[str], argument: str = "layers") -> None:
        if isinstance(generator.module, ExtraLatents):
            raise InputError(argument, "layers of a generator without nuisances or unknowns", "one with (cut it first)")
        self.generator, self.root, self.argument = generator, _Root(generator), argument
        self.like = empty_like_parameters(generator)
        names_within = [name.partition(".")[2] for name, _ in self.root.named_modules(remove_duplicate=False)]
        known = [name for name in names_within if name]
        for name in names:
            if name not in known:
                raise InputError(
                    argument, f"the name of a module ({', '.join(known[:3])}, ...)", with_nearest(name, known)
                )
        try:
            with frozen(generator):
                self.graph = _AncestorTracer([self.root.prefix + name for name in names]).trace(self.root)
        except Exception as error:
            expected = "layers of a module that torch.fx can trace"
            raise InputError(argument, expected, f"{', '.join(names)} ({first_line(error)})") from error
        self.nodes = {name: self._node(name) for name in names}
        order = list(self.graph.nodes)
        if sorted(names, key=lambda name: order.index(self.nodes[name])) != list(names):
            raise InputError(argument, "layers in the order in which they are called", ", ".join(names))

    def _node(self, name: str) -> Node:
        """Return the only call of a layer."""
        layer = self.root.get_submodule(self.root.prefix + name)  # one module may have several names
        calls = [node for node in self.graph.nodes if node.op == "call_module"]
        nodes = [node for node in calls if self.root.get_submodule(str(node.target)) is layer]
        if len(nodes) != 1:
            raise InputError(
                self.argument, "layers that are called once", f"{name}, which is called {len(nodes)} times"
            )
        return nodes[0]

    def halves(self, name: str) -> tuple[Generator, Generator]:
        """Return the generators from latents to the activations of a layer, and from these to images."""
        graph, entering = self._cut(name, None)
        shapes = {LATENTS: self.generator.latent_shape} | self.generator.part_shapes
        later = {part: shapes[part] for part in shapes if part in entering}
        first = _without_range(self.generator.with_module(_Piece(self._cut(None, name)[0], self.like)))
        shape = self._activation_shape(first, name)
        before = first.with_module(_Piece(first.module.graph, self.like, joined=tuple(later)))
        after = Generator(
            _Piece(graph, self.like, positional=name),
            latent_shape={name: shape, **later} if later else shape,
            output_range=self.generator.output_range,
            start_scale=self.generator.start_scale,
            latents=Activations(before),
            pick=self.generator.pick,
        )
        return before, after.given(**self.generator.conditions)

    def between(self, name: str, following: str) -> Generator:
        """Return the generator from latents of the layer ``name`` to those of the ``following`` one, as in `halves`."""
        (_, after), (_, later) = self.halves(name), self.halves(following)
        joined = tuple(part for part in later.part_shapes if part != following)
        graph, _ = self._cut(name, following)
        piece = _Piece(graph, self.like, positional=name, joined=joined)
        return _without_range(after.with_module(piece))

    @torch.no_grad()
    def _activation_shape(self, before: Generator, name: str) -> tuple[int, ...]:
        """Return the shape of a layer's activations; raise `InputError` where they are no floating-point numbers."""
        first, outputs = before.take(torch.tensor([0], device="cpu")), list[Any]()
        handle = first.module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        try:
            shape = first.output_shape()
        finally:
            handle.remove()
        if not isinstance(outputs[0], Tensor) or not outputs[0].is_floating_point():
            got = str(outputs[0].dtype) if isinstance(outputs[0], Tensor) else type(outputs[0]).__name__
            raise InputError(self.argument, "layers that return floating-point numbers", f"{name} ({got})")
        return shape

    def _cut(self, start: str | None, end: str | None) -> tuple[GraphModule, set[str]]:
        """Return the piece from a layer (None: the latents) to another (None: the output), and the inputs it takes."""
        nodes = list(self.graph.nodes)
        goal, source = self.nodes[end] if end else nodes[-1], self.nodes.get(start or "")
        needed, waiting = set[Node](), [goal]
        while waiting:
            if (node := waiting.pop()) not in needed:
                needed.add(node)
                waiting += [] if node is source else node.all_input_nodes
        graph, copies, entering = Graph(), dict[Node, Node](), set[str]()
        inputs = graph.placeholder("inputs")
        for node in (node for node in nodes if node in needed):
            if node.op == "placeholder":
                copies[node] = inputs
            elif node is source:
                copies[node] = graph.call_function(operator.getitem, (inputs, start))
            else:
                copies[node] = graph.node_copy(node, copies.__getitem__)
                if node.target is operator.getitem and node.all_input_nodes[0].op == "placeholder":
                    entering.add(str(node.args[1]))
        if goal is not nodes[-1]:
            graph.output(copies[goal])
        return GraphModule(self.root, graph), entering


class _Root(nn.Module):
    """A generator's module as a function of a dictionary of its inputs."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.module, self.prefix = generator.module, "module."
        if not isinstance(generator.module, nn.Module):
            self.owner, self.prefix = module_of(generator.module), "owner."
        self.parts, self.conditions = list(generator.part_shapes), list(generator.conditions)
        self.constants = generator.constants

    def forward(self, inputs: Mapping[str, Tensor]) -> Any:
        latents = [] if self.parts else [inputs[LATENTS]]
        named = {name: inputs[name] for name in (*self.parts, *self.conditions)}
        return self.module(*latents, **named, **self.constants)


class _AncestorTracer(Tracer):
    """Traces into the modules that hold certain layers, and into no other: only their forwards must be traceable."""

    def __init__(self, layers: Sequence[str]) -> None:
        super().__init__()
        self.layers = layers

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(layer.startswith(f"{module_qualified_name}.") for layer in self.layers)


class _Piece(nn.Module):
    """A piece of a module.

    Args:
        graph: maps inputs by name to its output.
        like: empty tensor with the dtype and device of the whole module's weights; the piece may have none.
        positional: name of an input that has none.
        joined: names of inputs that are appended to the output, each sample as one vector.
    """

    like: Tensor

    def __init__(
        self, graph: GraphModule, like: Tensor, positional: str = LATENTS, joined: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.register_buffer("like", like, persistent=False)
        self.graph, self.positional, self.joined = graph, positional, joined
        self.space = positional

    def forward(self, *latents: Tensor, **named: Any) -> Any:
        inputs = {**named, **dict.fromkeys([self.positional], *latents)} if latents else named
        output = self.graph(inputs)
        if not self.joined:
            return output
        return torch.cat([output.flatten(1), *(inputs[name].flatten(1) for name in self.joined)], 1)


class Activations:
    """The distribution of a generator's outputs; draws of the same random numbers are the same."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def __call__(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.cat(list(self.chunks(count, generator)))

    @torch.no_grad()
    def chunks(self, count: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield activations (n, *shape), ``count`` in all; conditions of several samples are taken in turn."""
        z = self.generator.distribution.draw(count, generator).to(empty_like_parameters(self.generator))
        samples = max(map(len, self.generator.conditions.values()), default=1)
        with frozen(self.generator):
            for rows in torch.arange(count, device="cpu").split(CHUNK):  # in the order of their latents
                yield self.generator.take(rows % samples)(z[rows.to(z.device)])


def _without_range(generator: Generator) -> Generator:
    """Return a generator, new, as one whose outputs are activations, in any range."""
    generator.output_range, generator.pick, generator.encoder = (0.0, 1.0), None, None
    generator.constants, generator._emitted_range, generator._done = {}, None, {"checked", "range"}
    return generator
