"""sbir_jax: a hand-drawn sketch finds a photo. Dual encoders trained, evaluated and used in JAX."""

__version__ = "0.1.0"
