"""A program that uses models of the hub as they lie on a host: transformers, as another user, which asks the hub for nothing."""

from __future__ import annotations

import json
import random
import struct
import subprocess

import pytest
from conftest import CLIENT, Model, asked, distribute, offline, pin, safetensors
from fleet import GPU_HOSTS, REPOSITORY

WORDS = ["[UNK]", "one", "copy", "on", "the", "disk"]
CONFIG = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "vocab_size": len(WORDS),
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
}
UNKNOWN = {"id": 0, "content": "[UNK]", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [UNKNOWN],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {word: n for n, word in enumerate(WORDS)}, "unk_token": "[UNK]"},
}
# All that a BERT of one layer has, by the names that its program gives them.
LAYER = "encoder.layer.0."
SHAPES = {
    "embeddings.word_embeddings.weight": [len(WORDS), 8],
    "embeddings.position_embeddings.weight": [16, 8],
    "embeddings.token_type_embeddings.weight": [2, 8],
    **{f"{LAYER}attention.{part}.weight": [8, 8] for part in ("self.query", "self.key", "self.value", "output.dense")},
    **{f"{LAYER}attention.{part}.bias": [8] for part in ("self.query", "self.key", "self.value", "output.dense")},
    f"{LAYER}intermediate.dense.weight": [16, 8],
    f"{LAYER}intermediate.dense.bias": [16],
    f"{LAYER}output.dense.weight": [8, 16],
    f"{LAYER}output.dense.bias": [8],
    "pooler.dense.weight": [8, 8],
    "pooler.dense.bias": [8],
    **{
        f"{norm}.LayerNorm.{part}": [8]
        for norm in ("embeddings", f"{LAYER}attention.output", f"{LAYER}output")
        for part in ("weight", "bias")
    },
}
LOAD = """
import json, sys
import transformers
repo = sys.argv[1]
tokenizer = transformers.AutoTokenizer.from_pretrained(repo)
model, told = transformers.AutoModel.from_pretrained(repo, output_loading_info=True)
words = tokenizer("one disk here", return_tensors="pt", add_special_tokens=False)["input_ids"]
print(json.dumps({
    "version": transformers.__version__,
    "class": type(model).__name__,
    "told": {name: len(told[name]) for name in ("missing_keys", "unexpected_keys", "mismatched_keys")},
    "words": words[0].tolist(),
    "first": model.embeddings.word_embeddings.weight[0].tolist(),
    "shape": list(model(input_ids=words).last_hidden_state.shape),
}))
"""


@pytest.fixture(scope="module")
def numbers():
    """Some for every tensor, as they are in four bytes."""
    source = random.Random(5)
    return {name: [source.uniform(-1, 1) for _one in range(shape[0] * (shape[1:] or [1])[0])] for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def tiny(origin, numbers):
    tensors = {name: (SHAPES[name], struct.pack(f"<{len(found)}f", *found)) for name, found in numbers.items()}
    model = Model(origin, "org/tiny-bert").put(
        {"model.safetensors": safetensors(tensors)},
        {
            "config.json": json.dumps(CONFIG),
            "tokenizer.json": json.dumps(TOKENIZER),
            "tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}),
        },
    )
    pin(model)
    finished = distribute(model)
    assert finished.returncode == 0, finished.stdout[-3000:]
    return model


@pytest.fixture(scope="module")
def transformers(fleet, clients):
    """It is on the hosts, for their own Python, which has torch."""
    version = fleet["gpu-1"].check_output("python3 -c %s", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    done = subprocess.run([REPOSITORY / "lab/huggingface/install", "transformers", version], capture_output=True, text=True, check=True)
    for name in GPU_HOSTS:
        subprocess.run(["podman", "cp", done.stdout.strip(), f"{fleet[name].container}:{CLIENT}/transformers"], check=True)


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_transformers_loads_a_model_and_its_tokenizer_offline(tiny, numbers, transformers, fleet, origin, name):
    origin.count_anew()
    done = offline(fleet[name], "transformers", tiny, program=LOAD)
    assert done.rc == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["class"], found["told"]) == ("BertModel", {"missing_keys": 0, "unexpected_keys": 0, "mismatched_keys": 0}), found
    assert found["words"] == [WORDS.index("one"), WORDS.index("disk"), WORDS.index("[UNK]")] and found["shape"] == [1, 3, 8]
    assert found["first"] == pytest.approx(numbers["embeddings.word_embeddings.weight"][:8], rel=1e-6)
    assert {host: counted["requests"] for host, counted in asked(origin).items() if counted["requests"]} == {}
