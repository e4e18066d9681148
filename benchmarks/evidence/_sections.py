"""The questions of the evidence in reading order: files that answer each, by which function, and what stays open."""

from __future__ import annotations

import _coreset as coreset
import _costs as costs
import _learning as learning
import _scale as scale
import _selectors as selectors
from _page import Section

SMALL = "Small images, small networks and short runs: a few hundred test images, features far weaker than the published"
ONE_WORKER = "GPUs, many workers, slow disks: one torch thread and one worker on drawn JPEGs."
DRAWN = "Real scenes: these are drawn, and the backbone was pretrained on more of the same kind."
SECTIONS = (
    Section(
        question="Does the coreset help?",
        files="main_table*",
        command="python benchmarks/main_table.py --data DIR",
        cannot=f"{SMALL} ones. Whether the gains published at 224 px with ResNet-50 and 5,000 epochs come out there.",
        tell=coreset.main_table,
    ),
    Section(
        question="What does the whole job give, through the command line alone?",
        files="fine_grained-*",
        command="python benchmarks/fine_grained.py --data DIR",
        cannot=f"{SMALL} ones. A gain of a few points between arms is within the error of the test set.",
        tell=coreset.fine_grained,
        in_readme=False,
    ),
    Section(
        question="Which selector finds most of what the target wants?",
        files="selection_study",
        command="python benchmarks/selection/study.py --data DIR --stores NAME=STORE",
        cannot="Accuracy after training: this is precision of the coreset. Random draws were made with one seed; "
        "features are those of small networks.",
        tell=selectors.study,
    ),
    Section(
        question="How does selection compare with the field?",
        files="selection_peers",
        command="python benchmarks/selection/peers.py --data DIR --stores NAME=STORE",
        cannot="Accuracy after training. Peers without code of their authors are readings of their papers; "
        "one draw each.",
        tell=selectors.field,
    ),
    Section(
        question="How fast and small is selection?",
        files="selection_speed",
        command="python benchmarks/selection/speed.py",
        cannot="GPUs; k-means, which is timed apart. Features are made from a seed, their file is in the page cache.",
        tell=scale.selection,
    ),
    Section(
        question="What does embedding add to decoding and the forward pass?",
        files="embedding_throughput",
        command="python benchmarks/embedding/throughput.py",
        cannot=ONE_WORKER,
        tell=costs.embedding,
    ),
    Section(
        question="How does embedding compare with other ways of doing it?",
        files="embedding_peers",
        command="python benchmarks/embedding/peers.py",
        cannot=ONE_WORKER,
        tell=costs.peers,
    ),
    Section(
        question="What does a training step cost?",
        files="training_step_speed",
        command="python benchmarks/training/step_speed.py",
        cannot="GPUs, mixed precision, several processes. Images lie decoded in memory.",
        tell=costs.training_step,
    ),
    Section(
        question="What do views cost?",
        files="views_throughput",
        command="python benchmarks/views/throughput.py",
        cannot="GPUs; other recipes than SimCLR's two views.",
        tell=costs.views,
        in_readme=False,
    ),
    Section(
        question="What does decoding cost?",
        files="decoding_codecs",
        command="python benchmarks/decoding/codecs.py",
        cannot="Other formats than JPEG. The bare decoders neither check that a file is whole nor turn it upright.",
        tell=costs.decoding,
        in_readme=False,
    ),
    Section(
        question="How long does it take to open many files and shards?",
        files="listing",
        command="python benchmarks/decoding/listing.py",
        cannot="Network file systems and object stores.",
        tell=costs.listing,
        in_readme=False,
    ),
    Section(
        question="How long does it take to start?",
        files="import_time",
        command="python benchmarks/import_time.py",
        cannot="A cold disk cache.",
        tell=costs.starting,
    ),
    Section(
        question="Does every method learn?",
        files="training_learning",
        command="python benchmarks/training/learning.py --data DIR",
        cannot="Which method is best: settings are near the published ones, not tuned, and runs are short.",
        tell=learning.methods,
    ),
    Section(
        question="Do unlabelled images help where labels are few?",
        files="semisup-*",
        command="python benchmarks/tasks/semisup.py --data DIR",
        cannot=f"{SMALL} ones; learning rates were not tuned for each method.",
        tell=learning.few_labels,
    ),
    Section(
        question="Do the methods for wrong labels withstand them?",
        files="weblysup-*",
        command="python benchmarks/tasks/weblysup.py --data DIR",
        cannot=f"{SMALL} ones; wrong labels are drawn evenly, real ones are not.",
        tell=learning.wrong_labels,
    ),
    Section(
        question="Which labels are worth buying?",
        files="active-*",
        command="python benchmarks/tasks/active.py --data DIR",
        cannot=f"{SMALL} ones.",
        tell=learning.bought_labels,
    ),
    Section(
        question="Does pretraining help detection?",
        files="detection",
        command="python benchmarks/tasks/detection.py",
        cannot=DRAWN,
        tell=learning.dense,
    ),
    Section(
        question="Does pretraining help segmentation?",
        files="segmentation",
        command="python benchmarks/tasks/segmentation.py",
        cannot=DRAWN,
        tell=learning.dense,
    ),
    Section(
        question="How do time and memory grow with the number of images?",
        files="scale",
        command="python benchmarks/scale/growth.py",
        cannot="Sizes beyond those measured: figures at 10⁹ are drawn out from the fits.",
        tell=scale.growth,
    ),
    Section(
        question="What does a cluster cost?",
        files="cluster_costs",
        command="python benchmarks/cluster_costs.py",
        cannot="A cluster: constants are of two cores, larger sizes are arithmetic.",
        tell=scale.cluster,
    ),
    Section(
        question="Which faults does it survive?",
        files="faults",
        command="python benchmarks/robustness/faults.py",
        cannot="Faults that were not tried: failing disks, lost power, file systems that break their promises. What "
        "earlier trials found was mended before this run, so it says less of faults of other kinds.",
        tell=scale.faults,
    ),
)
