"""Sound YAML files that are mutated: a training and a study, both tiny."""

TRAINING = """\
data:
  mask: random
  acceleration: [4]
  check: full
model:
  name: unet
  channels: 4
  pools: 1
  norm: instance
  dropout: 0.1
optimizer:
  name: adam
  lr: 0.001
  betas: [0.9, 0.99]
  weight_decay: 0.0
schedule:
  name: cosine
  warmup: 0.1
average:
  name: ema
  decay: 0.9
loss: l1
batch_size: 1
accumulate: 1
val_every: 1
clip: 1.0
precision: fp32
seed: 3
"""

STUDY = """\
name: tiny
factors:
  optimizer: [momentum, adam]
  norm: [instance, none]
base:
  model:
    channels: 4
    pools: 1
  batch_size: 1
  max_steps: 8
  val_every: 4
seeds: 6
reference: {optimizer: adam, norm: none}
tuning: {trials: 2, dimensions: [lr], objectives: final, sweep: 3}
margin: 0.01
targets: [0.9]
"""
