"""References to models, as recipes and commands write them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from prefdelta.core.config import Config
from prefdelta.core.folder_names import OptionalName


class VllmOptions(Config):
    """Settings of vLLM's engine, under its own names; what is left out is vLLM's default."""

    gpu_memory_utilization: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="The share of a device's memory for weights and cache; left out, vLLM's default.",
    )
    max_model_len: int | None = Field(
        default=None, gt=0, description="The most tokens of a question and its answer; left out, the model's own limit."
    )
    max_num_seqs: int | None = Field(
        default=None, gt=0, description="The most answers in one batch; left out, vLLM's default."
    )
    tensor_parallel_size: int | None = Field(
        default=None,
        gt=0,
        description="Over how many devices the model is spread; left out, all that the process may see.",
    )
    enforce_eager: bool | None = Field(
        default=None, description="`true` saves the minutes and the memory of CUDA graphs; left out, vLLM's default."
    )


class ModelRef(Config):
    """A model: a Hugging Face id or folder, ``micro:NAME`` (embedded), or a folder in another ``format``.

    What needs probabilities or gradients always uses ``transformers``, whatever the ``engine``; ``vllm`` runs in a
    process of its own.
    """

    path: str = Field(
        description=(
            "A name on the Hugging Face Hub, a folder, or `micro:NAME`; a plain string in the model's place is "
            "its path."
        )
    )
    name: OptionalName = Field(
        default=None,
        description=(
            "What the model is called in results and folders; left out, the end of its path. Needed where two paths "
            "have one end."
        ),
    )
    revision: str | None = Field(default=None, description="A commit on the Hub; give it to repeat a run exactly.")
    format: Literal["huggingface", "llama2c"] = Field(
        default="huggingface",
        description="`llama2c` reads a llama2.c checkpoint, a folder with `NAME.bin` and `tok*.bin`; students only.",
    )
    engine: Literal["transformers", "vllm"] = Field(
        default="transformers", description="What draws the model's answers, for training and in evaluations."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description=(
            "The type of the weights in memory; `auto`: as stored, but `float32` on a CPU without AVX-512, which is "
            "slow in 16 bits."
        ),
    )
    thinking: bool = Field(
        default=False,
        description=(
            "Passed to the chat template as `enable_thinking`; answers to learn from must be in the student's own mode."
        ),
    )
    trust_remote_code: bool = Field(
        default=False,
        description="Run Python code that comes with the model; only for models you trust as you trust a program.",
    )
    vllm: VllmOptions = Field(default=VllmOptions(), description="Options of the engine `vllm`.")

    @model_validator(mode="after")
    def _options_have_their_engine(self) -> ModelRef:
        if self.vllm != VllmOptions() and self.engine != "vllm":
            raise ValueError("options of vllm are for `engine: vllm`")
        return self


def refuse_secrets(url: str) -> str:
    """The same URL, unless it holds more than an address: messages and manifests show it.

    Raises:
        ValueError: it holds a user's name, a password, a query or a fragment; the message does not repeat it.
    """
    if "@" in url or "?" in url or "#" in url:
        raise ValueError(
            "a URL holds no user, password or query, since messages and manifests show it; keys go into "
            "environment variables"
        )
    return url
