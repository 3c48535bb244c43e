"""``evalkit leaderboard --site``: many runs as a folder of static files."""
