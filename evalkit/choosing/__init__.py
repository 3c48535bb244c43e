"""Which samples of a split are evaluated: those that fit an expression, have an id of a list, or are drawn."""
