"""The verbs of the command line, one file a kind of work.

To add one, write a function of (given, overrides), describe it in the VERBS of its file, and name
the file here. Heavy imports stay inside the functions: help, `configs`, `show` and every user error
answer in 0.1 s, where importing JAX takes a second.
"""

from sbir_jax.verbs import (
    doctor,
    evaluate,
    report,
    search,
    serve,
    settings,
    study,
    sweep,
    train,
    weights,
)

_FILES = (train, sweep, evaluate, report, study, search, serve, weights, doctor, settings)
VERBS = {name: verb for file in _FILES for name, verb in file.VERBS.items()}

# Errors that explain themselves in one line, by module.
RUN_ERRORS = {
    "sbir_jax.data.source": "DatasetError",
    "sbir_jax.checkpoint_errors": "CheckpointError",
    "sbir_jax.compile": "DoesNotFit",
    "sbir_jax.lock": "WorkdirInUse",
    "sbir_jax.sweep": "SweepFailed",
    "sbir_jax.wandb_run": "WandbError",
    "sbir_jax.train": "TrainingDiverged",
    "sbir_jax.embeddings": "EmbeddingsError",
    "sbir_jax.models.weight_files": "WeightsError",
    "sbir_jax.results": "ResultsError",
    "sbir_jax.report.record": "ReportError",
    "sbir_jax.retrieval": "RetrievalError",
    "sbir_jax.dimensions": "DimensionsError",
    "sbir_jax.ranking.trec": "TrecError",
    "data_prep.items": "PrepareError",
    "data_prep.doctor": "ProblemsFound",
}
