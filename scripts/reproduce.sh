#!/usr/bin/env bash
# The README's table on real scanner data: train on simulation only, evaluate on measured brains.
#
#   bash scripts/reproduce.sh COLIN27.nii.gz REAL_DIR [OUT]
#
# COLIN27.nii.gz: the Colin 27 T1 head (1 mm). REAL_DIR: a folder with multicoil/ and singlecoil/, fully sampled files
# in the fastMRI layout. The checkpoint is chosen on the simulated validation volumes; the real files are only
# evaluated, with 20 masks each.
set -euo pipefail
colin=${1:?give the NIfTI volume of a head} real=${2:?give the folder with multicoil/ and singlecoil/} out=${3:-reproduce}

simulate() { # name of the part, then options
  mrirecon data simulate "$out/parts/$1" --test 0 --oversampling 1 --snr-range 8 60 "${@:2}"
}
mkdir -p "$out/parts"
simulate head-axial    --seed 1 --train 40 --val 4 --slices 6 --matrix 256 216 --coils 8
simulate head-low      --seed 2 --train 24 --val 4 --slices 6 --matrix 192 176 --coils 4
simulate head-sagittal --seed 3 --train 32 --val 4 --slices 6 --matrix 256 256 --coils 1 --axis sagittal
simulate t1-axial      --seed 4 --train 24 --val 4 --slices 8 --matrix 256 216 --coils 7 --from "$colin"
simulate t1-sagittal   --seed 5 --train 40 --val 4 --slices 8 --matrix 256 256 --coils 1 --axis sagittal --from "$colin"

# One folder of them all; the part's name keeps files of equal names apart.
for split in train val; do
  mkdir -p "$out/data/$split"
  for part in "$out"/parts/*; do
    for file in "$part/$split"/*.h5; do mv "$file" "$out/data/$split/$(basename "$part")_$(basename "$file")"; done
  done
done

mrirecon train --data "$out/data" -c adamw_onecycle --coils both --mask random \
  --max-steps 3000 --val-every 1000 --output "$out/run"

for kind in multicoil singlecoil; do
  mrirecon evaluate "$out/run" --data "$real/$kind" --split all --mask random --coils auto --mask-draws 20
done
mrirecon evaluate zero-filled sense tv wavelet --data "$real/multicoil" --split all --mask random --acceleration 2 4 \
  --mask-draws 10 --method.lambda 0.002 --output "$out/classical"
