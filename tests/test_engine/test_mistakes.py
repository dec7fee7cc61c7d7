import pytest
from mmengine.config import Config
from mmengine.registry import MODELS

from mmtern import TernarySettings
from mmtern.engine.mistakes import did_you_mean, sentence_for


def caught(function):
    with pytest.raises(Exception) as info:
        function()
    return info.value


class Picky:
    """A model of somebody else's, which a config can get wrong."""

    def __init__(self, size=1, keys=None):
        if size <= 0:
            raise AssertionError  # pytest words those of assert itself
        if keys is not None:
            self.value = keys['needed']

    def use(self):
        return {}['gone']


@pytest.fixture
def built():
    MODELS.register_module(module=Picky, name='Picky')
    return lambda **keys: MODELS.build(dict(type='Picky', **keys))


@pytest.mark.parametrize('keys,words', [
    (dict(sise=1), "unexpected keyword argument 'sise'"),
    (dict(size=0), 'breaks a rule of the code that it names: raise'),
    (dict(keys={}), "the key 'needed' is missing"),
])
def test_what_is_wrong_in_a_config_is_a_sentence(built, keys, words):
    assert words in sentence_for(caught(lambda: built(**keys)))


def test_what_is_registered_nowhere_has_a_suggestion():
    error = caught(lambda: MODELS.build(dict(type='Conv2dd')))
    assert sentence_for(error).endswith(
        "'Conv2dd', which is registered nowhere; did you mean 'Conv2d'?")


def test_what_mmtern_refuses_is_a_sentence():
    error = caught(lambda: TernarySettings(threshold='median'))
    assert sentence_for(error) == str(error)


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    error = caught(lambda: open(tmp_path / 'gone'))
    assert sentence_for(error) == (
        f'No such file or directory: {str(tmp_path / "gone")!r}')


def test_bugs_keep_their_traceback(built):
    model = built()
    for error in (caught(model.use), caught(lambda: 1 / 0),
                  caught(lambda: None.missing), RuntimeError('out of memory')):
        assert sentence_for(error) is None


def test_a_config_without_a_key():
    error = caught(lambda: Config(dict(a=1)).b)
    assert "'b'" in sentence_for(error)


def test_nothing_near_has_no_suggestion():
    assert did_you_mean('xyz', ['Conv2d']) == ''
