"""What becomes of a run: store, statistics, leaderboard."""
