"""Stored runs, statistics, leaderboards, comparisons, reports and exports."""
