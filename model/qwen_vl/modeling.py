"""Qwen-VL's models: the language model with its vision encoder, without and with a language-model head.

The state dict has the published names, so ``from_pretrained`` loads the published checkpoint unchanged.  There are no
buffers: positional tables are computed when needed, so none can be lost on the meta device; those in published files
are ignored.

**Positions** count the real tokens of a row, so that left padding does not change its results.  With
``config.original_padding`` they count padding too, as in the original.

**The NTK factor** depends on the length of a request's complete prompt (``QwenVLConfig.ntk_alpha``) and stays as it was
at prefill.  Rows of a batch may have different factors.  It is ``ntk_alpha`` if given, else that of the cache, else
computed from the lengths in the attention mask.  If a prompt is computed in several calls (a shared prefix, chunked
prefill), give the ``ntk_alpha`` of the complete prompt.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, GenerationMixin
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from . import rotary
from .cache import QwenVLCache, factors, remember
from .configuration import QwenVLConfig
from .decoder import QwenVLBlock, QwenVLRMSNorm
from .images import check_no_images, images_per_row, put_images
from .pretrained import QwenVLPreTrainedModel
from .vision import QwenVLVisionTransformer


class QwenVLModel(QwenVLPreTrainedModel):
    """The language model with its vision encoder: last hidden states of images and text.

    Raises:
        ValueError: the configuration is a text-only Qwen's, or the widths of encoder and language model differ.
    """

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__(config)
        if config.vision.output_dim != config.hidden_size:
            raise ValueError(
                f"config.json: the adapter's output_dim {config.vision.output_dim} is not the language model's "
                f"hidden_size {config.hidden_size}."
            )
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.drop = nn.Dropout(config.emb_dropout_prob)
        self.h = nn.ModuleList(QwenVLBlock(config, layer) for layer in range(config.num_hidden_layers))
        self.ln_f = QwenVLRMSNorm(config)
        self.visual = QwenVLVisionTransformer(config)
        self.post_init()

    @property
    def language_model(self) -> QwenVLModel:
        """The module that takes ``inputs_embeds``, under its name in other families: this model itself.

        In the published state dict the vision encoder is inside the language model.
        """
        return self

    def get_decoder(self) -> nn.Module:
        return self

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Visual tokens (images, n_queries, hidden) of normalised images (images, 3, side, side)."""
        features: Tensor = self.visual(pixel_values)
        return features

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        ntk_alpha: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Last hidden states of text and images, or of embeddings.

        Args:
            input_ids: (batch, length), the tokens after those in the cache; an image is ``<img>``, n_queries
                placeholders, ``</img>``.
            pixel_values: (images, 3, side, side), all images of the batch in order of appearance, row by row.
            attention_mask: (batch, cached + length), 1 for real tokens and 0 for padding; or a prepared 4-D mask.
            position_ids: (batch, length), from 0; by default they count each row's real tokens.
            past_key_values: any transformers cache; it is extended.
            inputs_embeds: (batch, length, hidden), instead of ids and images, with the visual tokens in place.
            ntk_alpha: (batch,) or (1,), float, the NTK factors of the rows; needed if the prompt is incomplete.
            use_cache: whether to return a cache, a new ``QwenVLCache`` if none was given.

        Returns:
            ``last_hidden_state`` (batch, length, hidden), after the final norm, and ``past_key_values``.

        Raises:
            ValueError: the numbers of image spans and images differ, or the NTK factors are unknown (see
                ``cache.factors``).
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds.")
        if inputs_embeds is None:
            assert input_ids is not None
            inputs_embeds = self.wte(input_ids)
            if pixel_values is not None:
                features = self.get_image_features(pixel_values)
                inputs_embeds = put_images(inputs_embeds, input_ids, features, self.config)
            else:
                check_no_images(input_ids, self.config)
        elif pixel_values is not None:
            raise ValueError("pixel_values need input_ids: inputs_embeds do not say where the images go.")
        return self._run(inputs_embeds, attention_mask, position_ids, past_key_values, ntk_alpha, use_cache, **kwargs)

    def _run(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        past_key_values: Cache | None,
        ntk_alpha: Tensor | None,
        use_cache: bool | None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        if use_cache and past_key_values is None:
            past_key_values = QwenVLCache(config=self.config)
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        batch, length = inputs_embeds.shape[:2]
        device = inputs_embeds.device

        if self.config.original_padding or (position_ids is None and attention_mask is None):
            position_ids = torch.arange(length, device=device) + past
        elif position_ids is None:
            position_ids = positions_of(attention_mask)[:, -length:]
        position_ids = position_ids.to(device).expand(batch, -1)
        if ntk_alpha is not None or not self.training:
            alpha = factors(self.config, ntk_alpha, attention_mask, position_ids, past_key_values)
        else:
            alpha = torch.ones(batch, device=device)  # as in the original
        if past_key_values is not None:
            remember(past_key_values, alpha)

        rotation = rotary.rotation(
            position_ids, alpha, head_dim=self.config.kv_channels, base=self.config.rotary_emb_base
        )
        scaled = rotation
        if self.config.use_logn_attn and not self.training:
            scaled = rotation.scaled(rotary.logn_scale(position_ids, self.config.seq_length))
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
        )
        x = self.drop(inputs_embeds)
        for block in self.h:
            x = block(
                x,
                attention_mask=mask,
                key_rotation=rotation,
                query_rotation=scaled,
                past_key_values=past_key_values,
                **kwargs,
            )
        return BaseModelOutputWithPast(
            last_hidden_state=self.ln_f(x), past_key_values=past_key_values if use_cache else None
        )


class QwenVLForConditionalGeneration(QwenVLPreTrainedModel, GenerationMixin):
    """Qwen-VL with a language-model head: logits, loss and ``generate``."""

    accepts_loss_kwargs = False

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__(config)
        self.transformer = QwenVLModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @property
    def model(self) -> QwenVLModel:
        """The model without its head, under its name in other families."""
        return self.transformer

    def get_decoder(self) -> nn.Module:
        return self.transformer

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Visual tokens (images, n_queries, hidden) of normalised images (images, 3, side, side)."""
        return self.transformer.get_image_features(pixel_values)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        ntk_alpha: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (batch, length, vocabulary), and with ``labels`` the mean cross-entropy of the next tokens.

        Args:
            labels: (batch, length), −100 for positions without a loss; shifted here.
            logits_to_keep: the number of last positions to compute logits of (0: all), or these positions.

        The other arguments are those of ``QwenVLModel``.
        """
        outputs = self.transformer(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            ntk_alpha=ntk_alpha,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep or None, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def prepare_inputs_for_generation(
        self, input_ids: Any, *args: Any, is_first_iteration: bool | None = False, **kwargs: Any
    ) -> dict[str, Any]:
        """As in transformers; images are passed with the prompt only, and without a cache in every step."""
        base: Any = super()
        inputs: dict[str, Any] = base.prepare_inputs_for_generation(
            input_ids, *args, is_first_iteration=is_first_iteration, **kwargs
        )
        if kwargs.get("use_cache", True) and not is_first_iteration:
            inputs["pixel_values"] = None
        return inputs

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Any = None, **model_kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """As in transformers, for beams; the images of a row are repeated together, to keep their order."""
        pixel_values = model_kwargs.pop("pixel_values", None)
        if pixel_values is not None and expand_size > 1 and input_ids is not None:
            rows = pixel_values.split(images_per_row(input_ids, self.config))
            pixel_values = torch.cat([row for row in rows for _ in range(expand_size)])
        base: Any = super()
        expanded, model_kwargs = base._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **model_kwargs
        )
        if pixel_values is not None:
            model_kwargs["pixel_values"] = pixel_values
        return expanded, model_kwargs


def positions_of(attention_mask: Tensor | None) -> Tensor:
    """The positions (batch, length) of tokens among the real tokens of their row, from 0."""
    if attention_mask is None or attention_mask.ndim != 2:
        raise ValueError("with an attention mask that is not (batch, length), position_ids are needed.")
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
