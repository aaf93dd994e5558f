"""The licences of well-known published weights, as their publishers state them.

A file seldom says under which licence it is; its repository does. Facts by timm's tags (the part
of `resnet50.a1_in1k` after the dot), gathered in November 2026. Not legal advice.
"""

from __future__ import annotations

import re

_BY_TAG = (
    (r"fb_(?:ssl|swsl|wsl)_.*|metaclip.*", "cc-by-nc-4.0"),
    (r"eupe_.*", "fair-noncommercial-research-license"),
    (r"dinov3_.*", "dinov3-license"),
    (r"dfn\w+|apple_.*", "apple (own terms)"),
    (r"tv2?_in1k", "bsd-3-clause"),
    (r"openai", "mit"),
    (r"(?:clip_)?(?:laion|datacomp)(?:(?!_ft_).)*", "mit"),
    (r"(?:v2_)?webli.*|dino|lvd142m|augreg.*|orig_in21k|sam_in1k", "apache-2.0"),
    (r"[abcd]\d?h?_in1k|(?:ra|ram|am|bt|b1k|b2k)_in1k|gluon_in1k", "apache-2.0"),
)


def licence_of(tag: str, declared: str) -> str:
    """The licence of weights in words, with what to mind: `cc-by-nc-4.0 (no commercial use)`.

    Args:
      tag: timm's, or "".
      declared: what the files beside the weights say, or "".
    """
    known = next((name for pattern, name in _BY_TAG if re.fullmatch(pattern, tag)), "")
    name = declared or known
    if not name:
        return "unknown (ask the publisher)"
    terms = f"{name} {known}".lower()
    if re.search(r"\bnc\b|non-?commercial", terms):
        return f"{name} (no commercial use)"
    if "dinov3" in terms:
        return f"{name} (gated: its own terms, which follow what is made from it)"
    return name
