"""The model card: its Python runs as it stands, from the adapter's folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from lora_fixtures import save_lora
from prefdelta import micro
from prefdelta.report import model_card
from report_sample import sample


def test_the_code_of_the_card_puts_the_adapter_on_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = AutoModelForCausalLM.from_pretrained(micro.model_path("student"))
    save_lora(base, tmp_path, 0, r=4, target_modules=["q_proj", "v_proj"])
    run = sample(domains=("search",))
    card = model_card("sample", "search", run.results.domains["search"], run.lineage["search"])
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    ran: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), ran)
    assert capsys.readouterr().out.strip()
    with torch.no_grad():
        ours, plain = (model(**ran["asked"]).logits for model in (ran["model"], base))
    assert not torch.allclose(ours, plain, atol=1e-3)
