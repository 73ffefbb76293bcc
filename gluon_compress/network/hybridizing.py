"""Gluon's hybridization from inside, and the blocks that a network consists of."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from mxnet.gluon import Block, HybridBlock


def named_blocks(net: Block, prefix: str = "") -> Iterator[tuple[str, Block]]:
    """(structural name, block) of all blocks in a network, without the network itself."""
    for name, child in net._children.items():
        yield prefix + name, child
        yield from named_blocks(child, f"{prefix}{name}.")


def hybridize_like(block: HybridBlock, net: HybridBlock) -> None:
    """Hybridize ``block`` with the options of ``net``; with none where ``net`` is not hybridized."""
    block.hybridize(**{name: value for name, value in net._flags if net._active})


@contextmanager
def hybridized(nets: Iterable[HybridBlock]) -> Iterator[None]:
    """Hybridize the networks that are not hybridized yet, and afterwards leave all as they were."""
    with ExitStack() as stack:
        for net in nets:
            stack.enter_context(_hybridized(net))
        yield


@contextmanager
def _hybridized(net: HybridBlock) -> Iterator[None]:
    if net._active:
        yield
        return
    blocks = [block for block in (net, *(block for _, block in named_blocks(net))) if isinstance(block, HybridBlock)]
    before = [(block._active, block._flags, block._backend) for block in blocks]
    net.hybridize()
    try:
        yield
    finally:
        for block, state in zip(blocks, before):
            block._active, block._flags, block._backend = state
            block._clear_cached_op()
