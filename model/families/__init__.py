"""Model families: prompts and answer parsing, one file each."""
