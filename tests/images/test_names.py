"""Names: any bytes as text, and back."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simcore.images.names import escape, unescape


@given(st.binary(max_size=30).filter(lambda name: b"\0" not in name))
def test_any_name_comes_back(name):
    text = escape(name)
    text.encode("utf-8")
    assert os.fsencode(unescape(text)) == name


@given(st.lists(st.text(alphabet="%25a9Ee\udce9é", max_size=8).map(os.fsencode), unique=True, max_size=20))
def test_different_names_stay_different(names):
    assert len({escape(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"plain.jpg", "plain.jpg"),
        (b"caf\xe9.jpg", "caf%E9.jpg"),
        ("café 猫.jpg", "café 猫.jpg"),
        ("50%20off.jpg", "50%2520off.jpg"),
        ("100%.jpg", "100%.jpg"),
        (b"%\xe9", "%%E9"),
    ],
)
def test_only_what_must_is_escaped(name, text):
    assert escape(name) == text


@given(
    st.lists(st.binary(min_size=1, max_size=6).filter(lambda part: b"\0" not in part and b"/" not in part), max_size=4)
)
def test_escaping_a_path_is_escaping_its_parts(parts):
    assert escape(b"/".join(parts)) == "/".join(map(escape, parts))
