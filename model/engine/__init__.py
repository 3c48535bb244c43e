"""The engine of the ``hf`` backend: prefixes shared, batches packed by tokens, rows that leave when they are done."""
