"""Tests data/text.py: all the text, none of it twice, and what is wrong in it."""

import gzip

import pytest
from hypothesis import given, settings, strategies

import data
from core.registry import Block, build, check


def source(folder, **options):
    config = dict(name="text", folder=str(folder)) | options
    check(config, Block(data.SOURCES), "data")
    return build(data.SOURCES, config, "data")


def texts(found, split="train"):
    return [record["text"] for record in found.records(split)]


def read_all(**options):
    found = source(**options)
    return {split: texts(found, split) for split in found.splits}


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.txt").write_bytes(text.encode())
    return folder


LINES = strategies.lists(
    strategies.text("ab ä€\U0001f40d\r", max_size=9), min_size=1, max_size=6
)


@pytest.mark.parametrize("document", ["file", "line"])
def test_derived_splits_are_the_end_of_the_text_and_share_nothing(tmp_path, document):
    @settings(max_examples=150, deadline=None)
    @given(
        files=strategies.lists(LINES, min_size=1, max_size=3),
        shares=strategies.tuples(*[strategies.floats(0, 0.49)] * 2),
    )
    def whole(files, shares):
        for path in tmp_path.iterdir():
            path.unlink()
        written = ["\n".join(lines) + "x\n" for lines in files]
        write(tmp_path, **{f"f{n}": text for n, text in enumerate(written)})
        found = source(
            tmp_path,
            train="f*.txt",
            document=document,
            validation_share=shares[0],
            test_share=shares[1],
        )
        parts = {split: texts(found, split) for split in found.splits}
        joined = [text for part in parts.values() for text in part]
        if document == "file":
            assert "".join(joined) == "".join(written)
        else:
            lines = [line for text in written for line in text.split("\n")]
            kept = [line.removesuffix("\r") for line in lines if line.strip()]
            assert joined == kept
        if document == "file":
            size = len("".join(written).encode())
            test = len("".join(parts.get("test", [])).encode())
            assert shares[1] * size - 4 <= test <= shares[1] * size + 1

    whole()


def test_the_shares_are_those_of_the_text(tmp_path):
    write(tmp_path, train="0123456789" * 100)
    found = source(tmp_path, validation_share=0.1, test_share=0.2)
    assert found.splits == ("train", "validation", "test")
    assert [len(texts(found, split)[0]) for split in found.splits] == [700, 100, 200]
    assert source(tmp_path, test_share=0.0).splits == ("train", "validation")
    none = source(tmp_path, validation_share=0.0, test_share=0.0)
    assert (none.splits, texts(none)) == (("train",), ["0123456789" * 100])


def test_a_split_with_files_of_its_own_takes_nothing_from_training(tmp_path):
    write(tmp_path, train="abc" * 50, valid="v")
    found = source(tmp_path, validation="valid.txt", test_share=0.5)
    assert texts(found) + texts(found, "test") == ["abc" * 25] * 2
    assert texts(found, "validation") == ["v"]


def test_a_gz_a_pattern_and_folders_inside_are_read_in_order(tmp_path):
    write(tmp_path, b="B")
    write(tmp_path / "in", c="C")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"A"))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"not this one"))
    off = dict(validation_share=0.0, test_share=0.0)
    assert texts(source(tmp_path, train="*.txt", **off)) == ["A", "B"]
    assert texts(source(tmp_path, train="**/*.txt", **off)) == ["A", "B", "C"]
    assert texts(source(tmp_path, train="a.txt", **off)) == ["A"]


def test_a_gz_is_cut_where_its_text_is(tmp_path):
    text = "".join(f"line {n}\n" for n in range(100))
    (tmp_path / "train.txt.gz").write_bytes(gzip.compress(text.encode()))
    write(tmp_path, plain=text)
    for document in ("file", "line"):
        zipped = source(tmp_path, document=document)
        plain = source(tmp_path, train="plain.txt", document=document)
        for split in plain.splits:
            assert texts(zipped, split) == texts(plain, split) != []


def test_a_file_is_taken_as_it_stands_but_for_a_byte_order_mark(tmp_path):
    (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbfa\r\n\n b\xc2\x85\n")
    off = dict(validation_share=0.0, test_share=0.0)
    assert texts(source(tmp_path, **off)) == ["a\r\n\n b\x85\n"]
    assert texts(source(tmp_path, document="line", **off)) == ["a", " b\x85"]


def test_the_digest_is_that_of_the_text_and_of_how_it_is_cut(tmp_path):
    write(tmp_path, train="abc" * 50, other="abc" * 50)
    first = source(tmp_path).digest()
    assert source(tmp_path).digest() == first
    assert source(tmp_path, train="other.txt").digest() == first
    others = {
        source(tmp_path, document="line").digest(),
        source(tmp_path, test_share=0.1).digest(),
        source(tmp_path, validation="other.txt").digest(),
        source(write(tmp_path, train="abd" * 50)).digest(),
    }
    assert len(others | {first}) == 5


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(train=""), r"data\.train='' names no file"),
        (dict(train="gone.txt"), r"data\.train: there is no .*gone\.txt and no gone"),
        (dict(train="*.text"), r"data\.train='\*\.text' matches no file in"),
        (dict(folder="/nowhere"), r"data\.folder='/nowhere' is not a folder"),
        (
            dict(folder="/nowhere", train="*"),
            r"data\.folder='/nowhere' is not a folder",
        ),
        (dict(test="*.txt"), r"data\.train='train\.txt' and data\.test='\*\.txt' both"),
        (dict(train="empty.txt"), r"empty\.txt is empty"),
        (dict(train="torn.txt"), r"torn\.txt\.gz cannot be read: .*end-of-stream"),
        (dict(train="fake.txt"), r"fake\.txt\.gz cannot be read: Not a gzipped file"),
        (dict(train="bent.txt"), r"bent\.txt\.gz cannot be read: .*invalid"),
        (dict(train="bytes.txt"), r"bytes\.txt line 3 is not UTF-8 \(byte 2: 0xff\)"),
        (
            dict(train="bytes.txt", document="line"),
            r"bytes\.txt line 3 is not UTF-8 \(byte 2: 0xff\)",
        ),
        (dict(validation_share=0.5, test_share=0.5), r"less than 1\.0 together"),
        (dict(test_share=1.0), r"data\.test_share=1\.0 must lie in \[0, 1\)"),
        (dict(document="word"), r"data\.document='word' is not known.*'file', 'line'"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, options, match):
    write(tmp_path, train="abc", empty="")
    (tmp_path / "torn.txt.gz").write_bytes(gzip.compress(b"a long text")[:-9])
    (tmp_path / "bent.txt.gz").write_bytes(gzip.compress(b"a")[:10] + b"\xff" * 20)
    (tmp_path / "fake.txt.gz").write_bytes(b"no gzip")
    (tmp_path / "bytes.txt").write_bytes(b"a\nb\nc\xff\nd\n" + b"z" * 1_000)
    with pytest.raises((ValueError, FileNotFoundError), match=match) as error:
        read_all(**dict(folder=tmp_path) | options)
    assert "\n" not in str(error.value)
