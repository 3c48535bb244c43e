"""The client of OpenAI-compatible servers, which the ``server`` backend is made of."""
