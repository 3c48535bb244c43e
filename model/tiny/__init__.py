"""The bundled tiny checkpoint: how its scenes are drawn, how it was trained, and its weights.

``weights/tiny`` and ``weights/tiny-early`` are ordinary Qwen2.5-VL checkpoint folders.  Nothing in evalkit treats them
specially; the names are looked up here and turned into a path, and from there on they are any other local checkpoint.
"""
