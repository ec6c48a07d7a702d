"""A replica as it is priced, and the price of each of its operators over the tokens of a pass. No clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from clustersim.cost import compute, measured
from clustersim.cost.collectives import Inside, collective_s, curve_of, group_of, group_s
from clustersim.cost.compute import Formats, Price
from clustersim.cost.dispatch import Exchange, round_trip_s
from clustersim.cost.table import MeasuredTable
from clustersim.errors import ClusterSimError
from clustersim.models.operators import (
    Attention,
    Elementwise,
    ExpertGemm,
    Gemm,
    Operator,
    Shard,
    operators,
)
from clustersim.models.transformer import Transformer
from clustersim.spec.accelerator import Accelerator
from clustersim.spec.dispatch import DispatchKernels
from clustersim.spec.efficiency import Efficiency, ExpertCurve, GemmCurve, Operation
from clustersim.spec.precision import Precision
from clustersim.spec.stack import Stack
from clustersim.spec.transport import Transport

Floats = NDArray[np.float64]
SIXTEEN_BITS = Formats()


@dataclass(frozen=True, slots=True)
class Parallel:
    """How many ranks share a layer, a pipeline, the batch's attention, and the experts."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    """Ranks of *tensor* accelerators that each attend to their share of the batch, in lockstep."""
    expert: int = 1
    """Groups that hold different experts; they divide the tensor x data accelerators of a stage."""

    def __post_init__(self) -> None:
        for name in ("tensor", "pipeline", "data", "expert"):
            if getattr(self, name) < 1:
                raise ClusterSimError(f"parallel.{name} is {getattr(self, name)}; it must be 1 or more")
        if self.stage_ranks % self.expert:
            raise ClusterSimError(
                f"parallel.expert={self.expert} does not divide the {self.stage_ranks} accelerators "
                f"of a stage (tensor={self.tensor} x data={self.data})"
            )

    @property
    def stage_ranks(self) -> int:
        """Accelerators of one pipeline stage."""
        return self.tensor * self.data

    @property
    def ranks(self) -> int:
        """Accelerators of the replica."""
        return self.stage_ranks * self.pipeline

    @property
    def shard(self) -> Shard:
        """How one rank's part of the model is cut."""
        return Shard(self.tensor, self.expert, self.stage_ranks // self.expert)


@dataclass(frozen=True, slots=True)
class Network:
    """What lies beyond a scale-up domain."""

    domain: int
    """Accelerators that one domain holds."""
    bytes_per_s: float
    """Line rate of the adapters of one accelerator, one direction."""
    transport: Transport
    dispatch: DispatchKernels
    """Whose kernels send tokens to experts in other domains."""


@dataclass(frozen=True)
class Replica:
    """Everything that decides what a pass of one replica takes."""

    model: Transformer
    accelerator: Accelerator
    efficiency: Efficiency
    stack: Stack
    parallel: Parallel
    precision: Precision
    table: MeasuredTable | None = None
    """Measured times that are laid over the prices."""
    network: Network | None = None
    """Without it all accelerators share one domain."""

    @cached_property
    def curves(self) -> Efficiency:
        """The efficiency curves with those of the stack's own kernels laid over them."""
        return self.efficiency.for_stack(*self.stack.kernels)

    @cached_property
    def operators(self) -> tuple[Operator, ...]:
        """Every operator of one rank."""
        return operators(self.model, self.parallel.shard)

    @property
    def formats(self) -> Formats:
        """The formats of the products with the model's weights."""
        return Formats(self.precision.weights, self.precision.activations)

    def attentions(self) -> Iterator[Attention]:
        """Yield the attention operators."""
        yield from (operator for operator in self.operators if isinstance(operator, Attention))

    def local_tokens(self, tokens: Floats) -> Floats:
        """Return the tokens of the fullest of the data-parallel ranks."""
        return np.ceil(tokens / self.parallel.data)


def pass_prices(replica: Replica, tokens: Floats) -> Iterator[tuple[str, Price]]:
    """Yield everything that a pass of *tokens* tokens takes but attention and logits, by name."""
    local = replica.local_tokens(tokens)
    for operator in replica.operators:
        price = _operator_price(replica, operator, tokens if isinstance(operator, ExpertGemm) else local)
        if price is not None:
            yield operator.name, price * operator.layers
    yield from _exchanges(replica, tokens, local)
    yield "iteration overhead", compute.overhead(np.full_like(tokens, replica.stack.iteration))


def output_prices(replica: Replica, sequences: Floats) -> Iterator[tuple[str, Price]]:
    """Yield what logits and sampling take for *sequences* sequences that emit a token, by name."""
    local = replica.local_tokens(sequences)
    head = next(o for o in replica.operators if isinstance(o, Gemm) and o.kind == "logits")
    yield "logits", product(replica, head, local)
    sampling = Elementwise("sampling", 1, 4.0 * replica.model.vocabulary)
    yield "sampling", compute.elementwise(sampling, local, replica.curves.elementwise, replica.accelerator)
    gathered = 2.0 * replica.model.vocabulary * local
    ranks = replica.parallel.tensor
    yield "logits all-gather", compute.network(exchange_s(replica, "all_gather", ranks, gathered))
    yield "sequence overhead", compute.overhead(replica.stack.sequence * sequences)


def product(replica: Replica, operator: Gemm, tokens: Floats) -> Price:
    """Price one layer's product; router and logits stay at 16 bits."""
    formats = replica.formats if operator.kind == "gemm" else SIXTEEN_BITS
    curve = gemm_curve(replica.curves, formats)
    price = compute.gemm(operator, tokens, curve, replica.accelerator, formats)
    if replica.table:
        return measured.scaled(price, _measured_ratios(replica, operator, tokens, formats))
    if replica.stack.fuses_quantisation:
        return price
    return price + compute.quantise(operator, tokens, curve, replica.accelerator, formats)


def _measured_ratios(replica: Replica, operator: Gemm, tokens: Floats, formats: Formats) -> Floats:
    """Return by how much the replica's table differs from the price of *operator*."""
    if replica.table is None:
        return np.ones_like(tokens)
    curve, accelerator = gemm_curve(replica.curves, formats), replica.accelerator

    def predict(like: Gemm, rows: Floats) -> Floats:
        return compute.gemm(like, rows, curve, accelerator, formats).total_s

    return measured.product_ratios(replica.table, operator, tokens, formats.weights, predict)


def gemm_curve(curves: Efficiency, formats: Formats) -> GemmCurve:
    """Return the curve of products in *formats*: by the weights, else the activations, else 16 bits."""
    found = (curves.gemm[f] for f in (formats.weights, formats.activations, "bf16") if f in curves.gemm)
    return next(found)


def expert_curve(curves: Efficiency, formats: Formats) -> ExpertCurve:
    """Return the curve of grouped expert products in *formats*."""
    found = (curves.experts[f] for f in (formats.weights, formats.activations, "bf16") if f in curves.experts)
    return next(found)


def exchange_s(replica: Replica, operation: Operation, ranks: int, size_bytes: Floats) -> Floats:
    """Return the seconds of a collective between *ranks* accelerators of the replica."""
    accelerator = replica.accelerator
    peer_to_peer = accelerator.link not in ("pcie", "none") and accelerator.link_bandwidth > 0.0
    library = replica.stack.all_reduce if peer_to_peer else "pcie"
    link = accelerator.link_bandwidth or accelerator.host_bandwidth
    if ranks > 1 and not link:
        raise ClusterSimError(
            f"{accelerator.name} has neither link_bandwidth nor host_bandwidth: no collectives"
        )
    network = replica.network
    if network is not None and ranks > network.domain:
        inside = Inside(network.domain, link or 1.0, replica.curves.collectives["nccl"])
        return group_s(group_of(inside, ranks, network.bytes_per_s, network.transport), operation, size_bytes)
    curve = curve_of(replica.curves, library, operation)
    return collective_s(curve, operation, ranks, size_bytes, link or 1.0)


def _operator_price(replica: Replica, operator: Operator, tokens: Floats) -> Price | None:
    """Price one layer of an operator; None for attention and logits, which have prices of their own."""
    if isinstance(operator, Gemm):
        return None if operator.kind == "logits" else product(replica, operator, tokens)
    if isinstance(operator, Elementwise):
        return _moves(replica, operator, tokens)
    if isinstance(operator, ExpertGemm):
        curve = expert_curve(replica.curves, replica.formats)
        return compute.experts(operator, tokens, curve, replica.accelerator, replica.formats)
    return None


def _moves(replica: Replica, operator: Elementwise, tokens: Floats) -> Price:
    """Price an elementwise kernel; a normalisation fused into the all-reduce before it needs no launch."""
    curve = replica.curves.elementwise
    if replica.stack.fuses_norms and replica.parallel.tensor > 1 and operator.name.endswith(" norm"):
        curve = curve.model_copy(update={"launch": 0.0})
    return compute.elementwise(operator, tokens, curve, replica.accelerator)


def _exchanges(replica: Replica, tokens: Floats, local: Floats) -> Iterator[tuple[str, Price]]:
    """Yield the collectives of a pass: after each half of a layer, around experts, between stages."""
    model, parallel = replica.model, replica.parallel
    hidden = 2.0 * model.hidden * local
    reduce_s = exchange_s(replica, "all_reduce", parallel.tensor, hidden)
    spread = model.experts is not None and parallel.data > 1
    moe = model.experts.layers if model.experts else 0
    reduced = 2 * model.layers - (moe if spread else 0) + 1
    yield "all-reduce", compute.network(reduce_s) * reduced
    if spread:
        yield "expert dispatch and combine", compute.network(_dispatch_s(replica, local)) * moe
    if parallel.pipeline > 1:
        yield "stage hand-over", compute.network(_hand_over_s(replica, hidden))


def _hand_over_s(replica: Replica, hidden_bytes: Floats) -> Floats:
    """Return the time of a pass between its stages: inside a domain, or over the network between two."""
    parallel, network = replica.parallel, replica.network
    borders = range(parallel.stage_ranks, parallel.ranks, parallel.stage_ranks)
    outer = sum(border % network.domain == 0 for border in borders) if network else 0
    inner_s = exchange_s(replica, "all_gather", 2, 2.0 * hidden_bytes) * (len(borders) - outer)
    if network is None or not outer:
        return inner_s
    pair = group_of(Inside(1, 1.0, {}), 2, network.bytes_per_s, network.transport)
    return inner_s + outer * group_s(pair, "send_recv", hidden_bytes)


def _dispatch_s(replica: Replica, local: Floats) -> Floats:
    """Return the time to send each token to its experts' ranks and to bring the results back."""
    moe, parallel, network = replica.model.experts, replica.parallel, replica.network
    if moe and network and parallel.stage_ranks > network.domain:
        nodes = -(-parallel.stage_ranks // network.domain)
        at = Exchange(replica.model.hidden, moe.top_k, moe.experts, parallel.stage_ranks, nodes)
        wired = replica.accelerator.model_copy(update={"network_bandwidth": network.bytes_per_s})
        return round_trip_s(network.dispatch, at, local, wired, replica.precision.activations)
    copies = min(moe.top_k, parallel.expert) if moe else 0
    rows = replica.model.hidden * copies * local
    out_s = exchange_s(replica, "all_to_all", parallel.stage_ranks, replica.precision.activation_bytes * rows)
    return out_s + exchange_s(replica, "all_to_all", parallel.stage_ranks, 2.0 * rows)
