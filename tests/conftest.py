"""Eight simulated devices for every test, so that sharding is real wherever the suite runs."""

import jax
from absl import flags

jax.config.update("jax_num_cpu_devices", 8)
flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl flags
