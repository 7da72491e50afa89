"""Hypothesis strategies for what a server could answer, sane or not."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

# Lone surrogates included: JSON can spell them ("\ud800"), and Python's parser lets them through.
texts = st.one_of(
    st.text(st.characters(), max_size=20), st.sampled_from(["\ud800", "a\udfff", "\x00", "a\nb", "x" * 2000])
)
numbers = st.one_of(
    st.integers(),
    st.integers(min_value=2**62, max_value=2**66),
    st.floats(),
    st.sampled_from(["1e9999999", "-1e9999999", "1e-9999999", "1_000", "NaN", "sNaN", "Infinity", "٣", "0x1", "1e400"]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)
urls = st.one_of(
    texts,
    st.sampled_from(
        ["https://a.example/v.mp4", "http://[::1", "ftp://a.example/x", "HTTPS://A.example", "https://", "//a.example"]
    ),
)
words = st.one_of(
    values, st.sampled_from(["waiting", "generating", "success", "fail", " FAILED ", "Error", "upscaling"])
)
outputs = st.one_of(
    values,
    st.lists(
        st.one_of(
            urls,
            st.fixed_dictionaries(
                {"url": urls},
                optional={
                    "width": scalars,
                    "height": scalars,
                    "mediaType": scalars,
                    "seed": scalars,
                    "lastFrameImage": st.one_of(values, urls),
                },
            ),
        ),
        max_size=4,
    ),
)


def _object(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=members)


records = _object(
    taskId=st.one_of(texts, values),
    model=values,
    status=words,
    state=words,
    creditsUsed=st.one_of(numbers, values),
    output=outputs,
    resultJson=st.one_of(values, outputs.map(lambda items: {"resultUrls": items}), texts),
    error=st.one_of(values, _object(code=values, message=values)),
    failMsg=values,
    createTime=st.one_of(numbers, values),
    completeTime=st.one_of(numbers, values),
)
errors = _object(
    message=st.one_of(texts, values),
    code=st.one_of(values, st.integers(100, 999), st.integers(100, 999).map(str)),
    data=values,
    required=st.one_of(numbers, values),
    available=st.one_of(numbers, values),
    limit=st.one_of(numbers, values),
    current=st.one_of(numbers, values),
    errors=st.one_of(
        values,
        st.lists(
            st.one_of(values, _object(message=values, path=st.one_of(values, st.lists(scalars, max_size=3)))),
            max_size=3,
        ),
    ),
)
payloads = st.one_of(
    values,
    records,
    st.fixed_dictionaries({"code": values, "message": values, "data": st.one_of(records, values)}),
    errors,
)
bodies = st.one_of(
    st.binary(max_size=60),
    payloads.map(lambda payload: json.dumps(payload).encode()),
    # Cut anywhere, and broken anywhere.
    st.tuples(payloads, st.integers(0, 200)).map(lambda cut: json.dumps(cut[0]).encode()[: cut[1]]),
    st.tuples(payloads, st.binary(max_size=3)).map(lambda mix: mix[1] + json.dumps(mix[0]).encode()),
    st.sampled_from(
        [
            b"",
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"9" * 5000,
            b"\xff\xfe{\x00}\x00",
            b"<html>" * 500,
            b"\xef\xbb\xbf{}",
        ]
    ),
)
