"""Machine translation: an encoder-decoder trained by default settings on pairs of sentences.

    pip install sacrebleu sacremoses
    python benchmarks/translation.py multi30k --budget 60m [--seeds 1] [--threads 2] [--beams 5] [--out FILE.json]
    python benchmarks/translation.py numbers --budget 5m

multi30k: English captions into German (29,000 pairs; test_2016_flickr). Two figures: BLEU and chrF of the text as it
comes out, by sacreBLEU with its signature; and lower-cased BLEU of Moses tokens, as the set's papers count it (there
the text-only Transformer-tiny has 41.02, Wu et al. 2021). The references of the second are the set's own tokenised
files where they are found, else the raw ones through the same tokeniser.

numbers: Chinese number words into English; the figure is the share of test items that are exactly right.

Greedy search stands beside beam search. `--target` and `--condition` choose another direction.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import quintet
from quintet.core.random import some
from quintet.data.published import data_root
from quintet.runs.task import Task
from quintet.sources.load import load_source

CONDITIONS = {"multi30k": "english", "numbers": "chinese"}
MOSES = "multi30k/tok/test_2016_flickr.lc.norm.tok.de.gz"


def moses(texts: list[str], language: str = "de") -> list[str]:
    """Lower-cased, punctuation normalised, tokenised."""
    from sacremoses import MosesPunctNormalizer, MosesTokenizer

    normal, tokens = MosesPunctNormalizer(language), MosesTokenizer(language)
    return [tokens.tokenize(normal.normalize(text.lower()), return_str=True, escape=False) for text in texts]


def references(raw: list[str]) -> list[str]:
    """The tokenised references of the test split."""
    path = data_root() / MOSES
    if path.exists():
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        if len(lines) == len(raw):
            return [line.strip().replace("&quot;", '"').replace("&apos;", "'").replace("&amp;", "&") for line in lines]
    return moses(raw)


def figures(out: list[str], wanted: list[str], test: bool) -> dict[str, Any]:
    """BLEU, chrF, lower-cased BLEU of Moses tokens, and the share that is exactly right."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    bleu, chrf, tokens = BLEU(), CHRF(), BLEU(tokenize="none", force=True)
    found: dict[str, Any] = {
        "exact": float(np.mean([a == b for a, b in zip(out, wanted, strict=True)])),
        "bleu": bleu.corpus_score(out, [wanted]).score,
        "chrf": chrf.corpus_score(out, [wanted]).score,
        "signatures": [str(bleu.get_signature()), str(chrf.get_signature())],
    }
    if test:
        found["tokenised_bleu"] = tokens.corpus_score(moses(out), [references(wanted)]).score
        found["signatures"].append(f"lower-cased Moses tokens|{tokens.get_signature()}")
    return found


def measure(args: argparse.Namespace, seed: int, runs: str) -> dict[str, Any]:
    began = time.perf_counter()
    model = quintet.train("autoregressive", data=args.source, condition=args.condition or CONDITIONS[args.source],
                          target=args.target, budget=args.budget, seed=seed, config=yaml.safe_load(args.config),
                          run=f"{args.source}-{seed}", runs=runs, report=tell)  # fmt: skip
    spent = time.perf_counter() - began
    items, given = Task.of(model.config, load_source(args.source), model.codecs).items(args.split)
    result: dict[str, Any] = {"seed": seed, "steps": model.config.steps, "train_s": spent, "items": len(items)}
    result["parameters"] = sum(p.numel() for p in model.family.parameters())
    for beams in (1, args.beams):
        began = time.perf_counter()
        sampling = {"temperature": 0, "beams": beams}
        out = model.sample(len(items), condition=list(given), sampling=sampling, batch_size=100)
        found = figures(out, list(items), args.source == "multi30k" and args.split == "test")
        result["greedy" if beams == 1 else f"beam {beams}"] = found | {"seconds": time.perf_counter() - began}
        result["examples"] = [[given[i], out[i], items[i]] for i in some(items, 5, 0)]
    return result


def tell(record: dict[str, Any]) -> None:
    if "quality" in record or record["step"] % max(1, record["steps"] // 20) == 0:
        print(json.dumps(record), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=CONDITIONS)
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--split", default="test")
    parser.add_argument("--condition", default=None, help="the column translated from")
    parser.add_argument("--target", default=None, help="the column translated into")
    parser.add_argument("--config", default="{}", help="sections that replace the defaults, as YAML")
    parser.add_argument("--runs", default=None, help="keep the runs here")
    parser.add_argument("--out", default=None)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(args, seed, args.runs or folder) for seed in range(args.seeds)]
    print(json.dumps(results, indent=1, ensure_ascii=False))
    if args.out:
        Path(args.out).write_text(json.dumps({"arguments": vars(args), "results": results}, indent=1))
    print("\n| seed | steps | training, s | search | exact | BLEU | chrF | lower-cased Moses BLEU | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for result in results:
        for search in ("greedy", f"beam {args.beams}"):
            row = result[search]
            cells = [result["seed"], result["steps"], f"{result['train_s']:.0f}", search, f"{row['exact']:.1%}",
                     f"{row['bleu']:.2f}", f"{row['chrf']:.2f}", f"{row.get('tokenised_bleu', float('nan')):.2f}",
                     f"{row['seconds']:.0f}"]  # fmt: skip
            print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
