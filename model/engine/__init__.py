"""Inference engine of the hf backend: prefix sharing, token-budget batching, continuous batching.

How a batch of requests becomes answers:

- ``Engine.generate`` (engine.py) is the loop: the ``Scheduler`` chooses a ``Batch``, the ``ModelRunner`` launches it,
  and the scheduler takes over the result and returns the finished ``Sequence`` objects.
- ``Sequence`` (sequence.py): one request's tokens, images, limits and output.
- ``Scheduler`` (scheduler.py): holds the waiting and the running sequences; evicts, and halves batches after running
  out of memory.  ``Admission`` (admission.py) chooses which are prefilled.  The running ones are a ``DecodeBatch``
  (decode_batch.py).
- ``ModelRunner`` (model_runner.py): prefill (prefill.py) and decode steps (cuda_graphs.py replays them on a GPU), as
  forward passes of the ``LanguageModel`` (language_model.py).
- ``Sampler`` (sampler.py): the next tokens, as ``SampledTokens`` that are copied to the CPU in the background.  With
  asynchronous scheduling (CUDA) step n + 1 is launched before step n's tokens are read.
- ``KVCache`` (kv_cache.py): keys and values of the running sequences, one row each.  Short answers are in one
  rectangle, ``KVTensors`` (kv_tensors.py); long ones in pages (paged_cache.py, paged_tensors.py, and pages.py, which
  counts them).

How a prefix is shared: the scheduler builds a prefix tree over a window's prompts (prefix_tree.py), in which an image
is one element.  Prefill computes the inner nodes first, level by level, and keeps each node's keys and values in
``Node.prefix``; then a sequence's own tokens are computed after its prefixes, which on a CPU attention reads where they
are (prefix_groups.py), and which elsewhere are copied before them.  A node's prefix is freed when the last sequence
below it is prefilled, and no running one refers to it.  In a paged cache its running sequences refer to the same pages.

Images: the ``ImagePrefetcher`` reads and preprocesses them in threads (vision.py, preprocess.py), the ``EncoderCache``
encodes them and keeps their features, and an ``ImageTable`` per window makes sure that each is processed once.

Videos (``model/videos.py``): each frame group is an element and is encoded as an image with several frames, so that
all of the above holds for videos, and a long one is computed in parts, cut between its frame groups.

``compatibility.build_engine`` makes an engine for a model, if its logits agree with the model's own.  ``patches``
replaces modules of the model while an engine uses it.
"""
