"""sbir_jax: a hand-drawn sketch finds a photo. Dual encoders trained, evaluated and used in JAX.

In use: `load_encoders` opens a trained run, `Index` a searchable folder of photos (docs/search.md).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sbir_jax.retrieval.encoders import load_encoders
    from sbir_jax.retrieval.index import Index

__version__ = "0.1.0"
__all__ = ["Index", "load_encoders"]


def __getattr__(name: str) -> Any:
    # On first use: `import sbir_jax` imports neither JAX nor NumPy.
    if name == "load_encoders":
        from sbir_jax.retrieval.encoders import load_encoders

        return load_encoders
    if name == "Index":
        from sbir_jax.retrieval.index import Index

        return Index
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
