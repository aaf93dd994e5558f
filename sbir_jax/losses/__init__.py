"""Losses over the global batch, cross-modal or within a side; `cross_modal` is what runs call."""

from sbir_jax.losses.total import bounded, cross_modal, init_params

__all__ = ["bounded", "cross_modal", "init_params"]
