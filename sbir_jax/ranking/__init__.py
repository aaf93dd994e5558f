"""Ranks a gallery for every query and scores the rankings; `rank.rank` is the entrance."""
