"""Which weights to keep on small tables: those of the lowest held-out loss, or the last.

    python benchmarks/selection.py [--sets wine,breast_cancer,diabetes] [--families vae,autoregressive,flow,diffusion]
        [--steps 1000] [--samples 300] [--jobs 2]

One run of each family on each set, with its defaults, given the label where there is one. Both weights of that run are
measured on the test split. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor


def both(source: str, family: str, steps: int, samples: int) -> list[str]:
    """A line of the table for each of the two."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    import quintet
    from quintet.evaluation.bench import Bench
    from quintet.sources.load import load_source
    from quintet.training import checkpoint

    dataset = load_source(source)
    condition = "label" if dataset.labels is not None and "label" in dataset.labels.column_names else None
    bench, lines = Bench(dataset, condition, samples=samples), []
    with tempfile.TemporaryDirectory() as runs:
        model = quintet.train(family, data=source, condition=condition, steps=steps, runs=runs)
        found = model.run.latest()
        assert found is not None
        best = checkpoint.steps(model.run.bests)[-1]
        for name, weights in (
            (best.name, checkpoint.load(best)[0]["model"]),
            ("last", found[0]["model"] | found[0]["ema"]),
        ):
            model.family.load_state_dict(weights)
            result = bench.run(model.fitted)
            figures, nats = result["metrics"], result["likelihood"]["nats"]
            cells = [f"{figures[key]:.3f}" for key in ("auc", "coverage", "memorised", "anomaly")]
            step = name.removeprefix("step-").lstrip("0")
            lines.append(f"| {source} | {family} | {step} | {nats:.1f} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="wine,breast_cancer,diabetes")
    parser.add_argument("--families", default="vae,autoregressive,flow,diffusion")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    print("| set | family | step | nats a row | AUC | coverage | copies | anomalies |\n" + "|---" * 8 + "|")
    with ProcessPoolExecutor(args.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        asked = [
            pool.submit(both, source, family, args.steps, args.samples)
            for source in args.sets.split(",")
            for family in args.families.split(",")
        ]
        for future in asked:
            print("\n".join(future.result()), flush=True)


if __name__ == "__main__":
    main()
