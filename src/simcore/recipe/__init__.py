"""Recipes: the whole pipeline from one YAML file, arm by arm and seed by seed.

A recipe is checked before any work starts. Every stage has a key made from its settings and from the keys of what
it reads; a finished stage whose key still holds is kept, a started one is resumed, and any other is made anew.
"""

from __future__ import annotations

from simcore.recipe._demo import demo
from simcore.recipe._parts import EMBED_SETTINGS, Arm, Evaluation, Training
from simcore.recipe._recipe import Recipe
from simcore.recipe._stage import Layout

__all__ = ["EMBED_SETTINGS", "Arm", "Evaluation", "Layout", "Recipe", "Training", "demo"]
