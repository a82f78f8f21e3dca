"""References to models, as recipes and commands write them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from prefdelta.core.config import Config
from prefdelta.core.folder_names import OptionalName


class VllmOptions(Config):
    """Settings of vLLM's engine, under its own names; what is left out is vLLM's default.

    ``tensor_parallel_size`` is by default the number of devices that the process may see.
    """

    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    max_model_len: int | None = Field(default=None, gt=0)
    max_num_seqs: int | None = Field(default=None, gt=0)
    tensor_parallel_size: int | None = Field(default=None, gt=0)
    enforce_eager: bool | None = None


class ModelRef(Config):
    """A model: a Hugging Face id or folder, ``micro:NAME`` (embedded), or a folder in another ``format``.

    A plain string in a recipe is its ``path``. ``engine`` says what draws its answers, for training and in evaluations;
    what needs probabilities or gradients always uses ``transformers``. The engine ``vllm`` runs in a process of its
    own, with the options under ``vllm``. ``name`` is what the model is called in results and folders, by default the
    end of its path.
    """

    path: str
    name: OptionalName = None
    revision: str | None = None
    format: Literal["huggingface", "llama2c"] = "huggingface"
    engine: Literal["transformers", "vllm"] = "transformers"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    thinking: bool = False
    trust_remote_code: bool = False
    vllm: VllmOptions = VllmOptions()

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
            "a server's URL holds no user, password or query, since messages and manifests show it; keys go into "
            "environment variables"
        )
    return url
