import hashlib

import pytest

from bestofl_lib import text
from bestofl_lib.languages import LANGUAGES, english_name


def test_a_suggestion_names_the_nearest_known_name_or_nothing():
    assert text.suggestion("langauges", ["languages", "budgets"]) == "did you mean 'languages'? "
    assert text.suggestion("qqqq", ["languages", "budgets"]) == text.suggestion("x", []) == ""


@pytest.mark.parametrize("content", ["", "é", "a\ud800b", "十八"])
def test_every_text_has_digests_and_becomes_valid(content):
    assert len(text.content_digest(content)) == len(text.key_digest(content)) == 16
    text.valid_unicode(content).encode()
    assert (text.valid_unicode(content) == content) == ("\ud800" not in content)


def test_a_content_digest_is_what_sha256sum_prints():
    assert text.content_digest(b"weights") == hashlib.sha256(b"weights").hexdigest()[:16]


def test_integers_of_texts_do_not_change_between_versions():
    """Folds and random streams of stored runs hang on them."""
    assert text.stable_integer("0:mgsm-001") == int(hashlib.blake2b(b"0:mgsm-001", digest_size=8).hexdigest(), 16)


def test_languages_outside_the_list_keep_their_code():
    assert english_name("qq") == "qq"
    assert {english_name(code) for code in LANGUAGES} == {record.name for record in LANGUAGES.values()}
