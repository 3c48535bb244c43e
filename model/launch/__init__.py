"""vLLM and SGLang started by evalkit: one server per replica on this machine, watched, restarted, and stopped.

``engines`` knows how each is found and which arguments it is given; ``placement`` distributes devices; ``limits`` finds
out how long the prompts of a run are.  ``supervise`` is the program around each server, ``process`` starts it, and
``replica`` waits for a server, watches it and restarts it.  ``shared_queue`` distributes requests.
"""
