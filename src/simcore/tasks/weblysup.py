"""Webly supervised learning: many labels from the web, of which some are wrong."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np

from simcore.artifacts import Embeddings, Report
from simcore.embedding import Encoder
from simcore.errors import SimcoreWarning, UsageError
from simcore.images import ImageSource, open_images
from simcore.settings import setting
from simcore.tasks._classes import ClassMap, match_classes, relabelled
from simcore.tasks._dividemix import DivideMix, DivideMixSettings
from simcore.tasks._labels import Labels
from simcore.tasks._noise import symmetric_noise
from simcore.tasks._noisy_learning import Learning
from simcore.tasks._supervised import Network
from simcore.tasks._tuned import check_inputs, save_tuned, state_folder
from simcore.tasks._tuning import ClippedTuning
from simcore.tasks._two_networks import CoTeaching, NoisyModel, Plain
from simcore.tasks._unlabelled import foreign_images

__all__ = ["WeblySupervised"]

METHODS = ("coteaching", "dividemix", "plain")
AUTO_FORGET_RATE = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeblySupervised(ClippedTuning):
    """Co-teaching or DivideMix from a pretrained backbone, on labels that may be wrong (Kim et al. 2023, Table 6).

    The train images, and those of ``--web``, are learnt from together. ``label_noise`` puts wrong labels in on
    purpose, so that robustness can be measured; the true ones then only tell how well the wrong ones were found.
    Co-teaching (Han et al. 2018): two networks choose for each other the images of small loss. DivideMix (Li et al.
    2020): they tell each other which labels to believe, and MixMatch learns from the rest without. Learning rate,
    forget rate schedule, warm-up, mixture and weights are the published ones; both networks follow one learning rate,
    and losses are measured on the logits of centre crops. The first network is kept and measured; ``top1_ensemble``
    is that of both together. ``plain`` believes every label, for comparison.
    """

    method: str = setting("coteaching", "how noisy labels are learnt from", choices=METHODS)
    web: str | None = setting(None, "SOURCE of more images with noisy labels; their classes are matched by name")
    label_noise: float = setting(0.0, "share of the labels that is made wrong on purpose, to measure robustness")
    batch_size: int = setting(64, "images a step; DivideMix: of either kind, for either network")
    forget_rate: float | None = setting(
        None, "coteaching: share of a batch left out in the end (default: --label-noise, without it 0.2)"
    )
    num_gradual: int = setting(10, "coteaching: epochs over which that share is reached")
    forget_exponent: float = setting(1.0, "coteaching: exponent of the forget rate")
    warm_up_epochs: int = setting(30, "dividemix: epochs of plain cross-entropy first")
    clean_threshold: float = setting(0.2, "dividemix: labels more probable than this to be clean are believed")
    num_losses: int = setting(5, "dividemix: epochs that an image's loss is averaged over")
    temperature: float = setting(0.5, "dividemix: guesses are sharpened with this")
    mixup_alpha: float = setting(0.75, "dividemix: both parameters of mixup's Beta distribution")
    unlabelled_weight: float = setting(75.0, "dividemix: weight of the unlabelled loss in the end")
    ramp_epochs: int = setting(16, "dividemix: epochs after the warm-up over which that weight rises")
    confidence_penalty: float = setting(0.0, "dividemix: weight of the negative entropy in the warm-up")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("label_noise", "forget_rate"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {value:g}, but must be from 0 to below 1")
        for name in ("temperature", "mixup_alpha", "forget_exponent"):
            if not getattr(self, name) > 0:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name):g}, but must be above 0")
        for name in ("num_gradual", "num_losses", "warm_up_epochs"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name)}, but must be at least 1")
        if not 0 <= self.clean_threshold < 1:
            raise UsageError(f"--clean-threshold is {self.clean_threshold:g}, but must be from 0 to below 1")
        if self.method == "dividemix" and self.warm_up_epochs >= self.epochs:
            raise UsageError(f"--warm-up-epochs is {self.warm_up_epochs}, but must be below --epochs {self.epochs}")

    def evaluate(
        self,
        encoder: Encoder | None,
        train: ImageSource | Embeddings,
        test: ImageSource | Embeddings,
        *,
        out: Path | None,
        quiet: bool,
    ) -> Report:
        """Tune and measure; ``out`` becomes a RUN (the first network) with ``head.safetensors`` beside it."""
        encoder, train, test = check_inputs(self, encoder, train, test, out)
        matched = match_classes(train.labels, train.classes, test.labels, test.classes, empty=train.notes.empty_classes)
        matched.warn(told=train.notes.empty_classes)
        parents = {"encoder": encoder.fingerprint, "train": train.fingerprint, "test": test.fingerprint}
        images, labels = train.take(np.flatnonzero(matched.train >= 0)), matched.train[matched.train >= 0]
        num_unknown = 0
        if self.web is not None:
            web = open_images(self.web)
            parents["web"] = web.fingerprint
            images, labels, num_unknown = _with_web(images, labels, foreign_images(web, train, test), matched)
        learning = Learning(
            task=self,
            encoder=encoder,
            images=images,
            labels=labels,
            test=test.take(np.flatnonzero(matched.test >= 0)),
            classes=matched.classes,
            state=state_folder(self, parents, out),
            quiet=quiet,
        )
        metrics, details, network = learning.run()
        details |= {"num_web": len(images) - int((matched.train >= 0).sum()), "num_web_unknown": num_unknown}
        head = save_tuned(self, network, encoder, classes=matched.classes, parents=parents, out=out)
        return self.report(metrics, {**matched.details(), **details}, {**parents, "head": head.fingerprint})

    def noisy(self, labels: Labels, num_classes: int) -> Labels:
        """Give the labels, int64 [n], with the noise that is put in on purpose."""
        generator = np.random.default_rng([self.seed, *b"noise"])
        return symmetric_noise(labels, self.label_noise, num_classes=num_classes, generator=generator)

    def build(self, networks: list[Network], num_images: int, num_classes: int) -> NoisyModel:
        """Make the method's model around ``networks``."""
        if self.method == "plain":
            return Plain(networks, num_images)
        if self.method == "coteaching":
            rate = self.label_noise or AUTO_FORGET_RATE if self.forget_rate is None else self.forget_rate
            exponent = self.forget_exponent
            return CoTeaching(networks, num_images, forget_rate=rate, num_gradual=self.num_gradual, exponent=exponent)
        settings = DivideMixSettings(
            warm_up=self.warm_up_epochs,
            threshold=self.clean_threshold,
            num_losses=self.num_losses,
            temperature=self.temperature,
            alpha=self.mixup_alpha,
            weight=self.unlabelled_weight,
            ramp=self.ramp_epochs,
            confidence_penalty=self.confidence_penalty,
            seed=self.seed,
        )
        return DivideMix(networks, num_images, num_classes=num_classes, settings=settings)


def _with_web(
    images: ImageSource, labels: Labels, web: ImageSource, matched: ClassMap
) -> tuple[ImageSource, Labels, int]:
    """Join the web images of known classes on; the third value counts those whose class the train set lacks."""
    found = relabelled(web.labels, web.classes, matched.classes)
    kept = np.flatnonzero(found >= 0)
    if not len(kept):
        raise UsageError(f"{web.name}: none of its {len(web)} images is of a class of the train set")
    if len(kept) < len(web):
        text = f"{web.name}: {len(web) - len(kept)} images have no class of the train set and are left out"
        warnings.warn(text, SimcoreWarning, stacklevel=4)
    return images + web.take(kept), np.concatenate([labels, found[kept]]), len(web) - len(kept)
