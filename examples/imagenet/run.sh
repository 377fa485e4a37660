#!/bin/sh
# From the answers of fourteen published ImageNet models to a certified cascade: make imagenet
# Writes to imagenet-out; the last line, the study, takes longer than all others.
set -eu
cd "$(dirname "$0")/../.."
DATA=benchmarks/data/imagenet_decisions OUT=imagenet-out

committee import $DATA/*.npz --labels $DATA/labels.npz --costs $DATA/costs.csv --kind decisions \
    --fraction 0.5 --split val --out $OUT/predictions
committee import $DATA/*.npz --labels $DATA/labels.npz --costs $DATA/costs.csv --kind decisions \
    --fraction 0.5 --split test --out $OUT/predictions
committee search $OUT/predictions --unit gpu_ms --match efficientnet_b3a --out $OUT/cascade.json
committee certify $OUT/cascade.json $OUT/predictions --split test --unit gpu_ms \
    --match efficientnet_b3a --within 0.005
committee evaluate $OUT/cascade.json $OUT/predictions
committee report $OUT/predictions --cascade $OUT/cascade.json --unit gpu_ms \
    --out $OUT/report.html --figure $OUT/front.png
committee study $OUT/predictions --unit gpu_ms --out $OUT/study
