"""What a browser would make of a page, as far as it could run or load something."""

import base64
import hashlib
import re
from html.parser import HTMLParser

_PLACES = ("href", "src", "srcset", "action", "formaction", "data", "poster", "background", "xlink:href", "content")


class ParsedPage(HTMLParser):
    """Elements with their attributes, texts, and the contents of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self.data, self.styles, self.texts = [], [], [], [], []
        self._inside = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else None
        if tag == "script" and dict(attrs) == {"type": "application/json", "id": "examples-data"}:
            self._inside = "data"  # which does not run
        if self._inside:
            self._lists()[self._inside].append("")

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside:
            self._lists()[self._inside][-1] += data
        else:
            self.texts.append(data)

    def _lists(self):
        return {"script": self.scripts, "data": self.data, "style": self.styles}

    @property
    def tags(self):
        return {tag for tag, _ in self.elements}

    def says(self, words):
        return words in " ".join(" ".join(self.texts).split())


def require_harmless(page, clean):
    """Nothing in `page` that runs or loads but what is in `clean`, the same page of harmless names."""
    assert page.scripts == clean.scripts
    assert page.styles == clean.styles
    assert page.tags <= clean.tags
    policies = []
    for tag, attributes in page.elements:
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            assert key != "style" or not re.search(r"url|expression|javascript", value or ""), (tag, value)
            if key in _PLACES and attributes.get("http-equiv") is None and tag != "meta":
                assert re.match(r"#|data:(image/(png|svg\+xml);base64)?,", value or ""), (tag, key, value)
        if attributes.get("http-equiv"):
            policies.append(attributes["content"])
    assert len(policies) == 1
    allowed = set(re.findall(r"'sha256-[^']+'", policies[0]))
    assert allowed == {
        f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in page.scripts
    }
