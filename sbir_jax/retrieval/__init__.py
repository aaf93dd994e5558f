"""A trained model in use: an index of photos, search, a page to draw on, and export."""


class RetrievalError(ValueError):
    """An index, a query or an export that cannot work; the message is one line."""
