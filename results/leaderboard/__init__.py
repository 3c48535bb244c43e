"""The leaderboard: rows, tables, published scores, plots."""
