"""Judges of rows that were drawn: quintet's own figures, and those of mostlyai-qa, sdmetrics and LightGBM.

    python benchmarks/table_judges.py FOLDER TARGET ROWS.csv ...

FOLDER has train.csv and test.csv; as many rows as in train.csv were drawn. Prints JSON, a line a file. Arrows say what
is better; real is what test rows, or training rows in their place, reach.

two_sample v  AUC of gradient boosting that tells test rows from as many drawn ones, 5-fold cross-validated; best 0.5
trained ^     AUC (or R2) on test rows of gradient boosting trained on drawn rows
columns ^     mean over columns of 1 - KS distance (numbers) or 1 - total variation (categories)
pairs ^       mean over pairs of 1 - |difference of correlations| / 2 (numbers), else 1 - total variation of the two
nearer v      |share - 1/2|, share: drawn rows that are nearer to a training row than to a test row, of as many each;
              a copy of training rows has 0.5. Gower's distance: of numbers in ranges, categories equal or not
detection ^   1 - (2 max(0.5, AUC) - 1), AUC of LightGBM fitted on training rows and drawn ones, of other drawn rows and
              test rows: the score of TabCascade (arXiv:2601.22816), the parts of CDTD, which it compares itself with
qa_*          mostlyai-qa: accuracy ^ of columns (univariate), pairs and triples and their mean (overall), AUC v of its
              discriminator and cosine similarity ^ in an embedding, |share - 1/2| v of rows nearer to training rows
sd_*          sdmetrics: column shapes ^, column pair trends ^, detection ^ by logistic regression, and
              protection ^ from overfitting (distance to the closest record)
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from quintet.core.random import some
from quintet.modalities.table.figures import Cells, column_shapes, efficacy, pair_trends

FEW, MOST = 2000, 25_000
"""Rows of either side that distances are taken of, and that a detector sees."""
REPORTED = 10_000
"""Rows of either side that the reports of the libraries see."""
Figures = dict[str, float]


def read(path: Path, like: pd.DataFrame | None = None) -> pd.DataFrame:
    """Rows of a CSV file, in the types of the columns of `like`: numbers or words."""
    rows = pd.read_csv(path, keep_default_na=False, na_values=[""], low_memory=False)
    if like is None:
        return rows.astype({name: str for name in rows if rows[name].dtype == bool})
    rows = rows[list(like)]
    for name in rows:
        if pd.api.types.is_numeric_dtype(like[name]):
            rows[name] = pd.to_numeric(rows[name], errors="coerce").astype(float)
        else:
            rows[name] = rows[name].map(str, na_action="ignore").astype(object)
    return rows


def own(train: pd.DataFrame, test: pd.DataFrame, made: pd.DataFrame, target: str) -> Figures:
    """quintet's figures, and LightGBM's."""
    tables = [pa.Table.from_pandas(rows, preserve_index=False) for rows in (train, test, made)]
    cells = Cells.of(tables[0])
    seen, real, fake = (cells(table) for table in tables)
    n = min(len(real), len(fake))
    few = fake[some(fake, n, 0)]
    both, side = np.concatenate([real[some(real, n, 0)], few]), np.repeat([0, 1], n)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    told = cross_val_predict(HistGradientBoostingClassifier(random_state=0), both, side, cv=folds,
                             method="predict_proba")[:, 1]  # fmt: skip
    at, drawn = cells.names.index(target), some(n, FEW, 0)
    number = cells.numeric[at] and len(np.unique(seen[:, at])) > 2
    return {
        "two_sample": float(roc_auc_score(side, told)),
        "trained": efficacy(fake, real, at, regression=number).value,
        "columns": column_shapes(real[drawn], few[drawn], cells.numeric).value,
        "pairs": pair_trends(real[drawn], few[drawn], cells.numeric).value,
        "nearer": nearer(seen, real, fake, np.array(cells.numeric)),
        "detection": detection(seen, real, fake, np.flatnonzero(~np.array(cells.numeric))),
    }


def nearer(train: np.ndarray, test: np.ndarray, made: np.ndarray, numeric: np.ndarray) -> float:
    """See `nearer` above; a null is as far from a number as the range is wide."""
    low, high = np.nanmin(train, 0), np.nanmax(train, 0)
    wide = np.where(numeric & (high > low), high - low, 1.0)
    n = min(FEW, len(test), len(made))
    rows = [torch.from_numpy(np.nan_to_num((side[some(side, n, 0)] - low) / wide, nan=-1.0)).float()
            for side in (train, test, made)]  # fmt: skip
    words = torch.from_numpy(~numeric)
    least = []
    for side in rows[:2]:
        near = []
        for part in rows[2].split(100):
            gap = (part[:, None] - side).abs().clamp_(max=1.0)
            gap[..., words] = (gap[..., words] > 0).float()
            near.append(gap.sum(-1).amin(1))
        least.append(torch.cat(near))
    share = (least[0] < least[1]).float() + 0.5 * (least[0] == least[1]).float()
    return abs(float(share.mean()) - 0.5)


def detection(train: np.ndarray, test: np.ndarray, made: np.ndarray, words: np.ndarray) -> float:
    """See `detection` above."""
    import lightgbm

    made = made[np.random.default_rng(0).permutation(len(made))]
    for_test = min(len(test), MOST, len(made) // 3)
    for_train = min(len(train), MOST, len(made) - for_test)
    model = lightgbm.LGBMClassifier(random_state=0, verbose=-1, n_jobs=1)
    x = np.concatenate([train[some(train, for_train, 0)], made[for_test : for_test + for_train]])
    model.fit(x, np.repeat([0, 1], for_train), categorical_feature=words.tolist())
    unseen = np.concatenate([test[some(test, for_test, 0)], made[:for_test]])
    auc = roc_auc_score(np.repeat([0, 1], for_test), model.predict_proba(unseen)[:, 1])
    return 1 - (2 * max(0.5, float(auc)) - 1)


def by_mostlyai(train: pd.DataFrame, test: pd.DataFrame, made: pd.DataFrame, target: str) -> Figures:
    from mostlyai import qa

    path = Path(tempfile.mkdtemp()) / "report.html"
    _, found = qa.report(syn_tgt_data=made, trn_tgt_data=train, hol_tgt_data=test, report_path=path,
                         max_sample_size_accuracy=REPORTED, max_sample_size_embeddings=FEW)  # fmt: skip
    assert found is not None
    accuracy, likeness, far = found.accuracy, found.similarity, found.distances
    return {
        "qa_overall": accuracy.overall, "qa_univariate": accuracy.univariate, "qa_bivariate": accuracy.bivariate,
        "qa_trivariate": accuracy.trivariate, "qa_overall_real": accuracy.overall_max,
        "qa_cosine": likeness.cosine_similarity_training_synthetic,
        "qa_auc": likeness.discriminator_auc_training_synthetic,
        "qa_auc_real": likeness.discriminator_auc_training_holdout,
        "qa_nearer": abs(far.dcr_share - 0.5), "qa_identical": far.ims_training, "qa_identical_real": far.ims_trn_hol,
    }  # fmt: skip


def by_sdmetrics(train: pd.DataFrame, test: pd.DataFrame, made: pd.DataFrame, target: str) -> Figures:
    from sdmetrics.reports.single_table import QualityReport
    from sdmetrics.single_table import DCROverfittingProtection, LogisticDetection

    numbers = {name: pd.api.types.is_numeric_dtype(train[name]) for name in train}
    kinds = {name: {"sdtype": "numerical" if number else "categorical"} for name, number in numbers.items()}
    metadata: dict[str, Any] = {"columns": kinds}
    report = QualityReport()
    real, fake = (rows.iloc[some(rows, min(REPORTED, len(test)), 0)] for rows in (test, made))
    report.generate(real, fake, metadata, verbose=False)
    shapes, trends = report.get_properties()["Score"]
    few = [rows.iloc[some(rows, min(FEW, len(test)), 0)] for rows in (train, made, test)]
    words = [name for name, number in numbers.items() if not number]
    known = np.ones(len(fake), bool)
    for name in words:
        known &= fake[name].isin(set(real[name])).to_numpy()  # other categories it cannot encode
    kept = DCROverfittingProtection.compute_breakdown(*few, metadata)
    return {
        "sd_shapes": shapes, "sd_trends": trends,
        "sd_detection": LogisticDetection.compute(real, fake[known], metadata),
        "sd_protection": kept["score"],
    }  # fmt: skip


def main() -> None:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    folder, target, *paths = sys.argv[1:]
    train = read(Path(folder) / "train.csv")
    train, test = (read(Path(folder) / f"{part}.csv", train) for part in ("train", "test"))
    for path in paths:
        made, found = read(Path(path), train), Figures()
        for judge in (own, by_mostlyai, by_sdmetrics):
            found |= judge(train, test, made, target)
        print(json.dumps({name: round(float(value), 4) for name, value in found.items()}), flush=True)


if __name__ == "__main__":
    main()
