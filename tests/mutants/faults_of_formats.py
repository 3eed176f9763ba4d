"""Faults in what reads strangers' bytes: documents, paths, ranges that a client must prove, archives, signed names."""

from tests.mutants.fault import mutant

IPLD, IPLD_TESTS = "mpisa/primitives/ipld.py", "tests/primitives/test_ipld.py"
WALK, WALK_TESTS = "mpisa/primitives/path_walk.py", "tests/storage/test_paths.py"
RANGE, RANGE_TESTS = "mpisa/primitives/range_stream.py", "tests/storage/test_selecting.py"
TAR, TAR_TESTS = "storage/tar_export.py", "tests/storage/test_tar_export.py"
IPNS, IPNS_TESTS = "mpisa/primitives/ipns.py", "tests/primitives/test_ipns.py"

FORMATS = (
    mutant(
        "takes a map key twice",
        IPLD,
        "if last is not None and (length, raw) <= (len(last), last):",
        "if last is not None and (length, raw) < (len(last), last):",
        IPLD_TESTS,
    ),
    mutant(
        "takes numbers in more than one encoding",
        IPLD,
        "if argument < _SMALLEST[short]:",
        "if False:",
        IPLD_TESTS,
    ),
    mutant(
        "gives out a range without comparing the blocks",
        RANGE,
        "if (cid.codec, cid.multihash) != (self._wanted.codec, self._wanted.multihash):",
        "if False:",
        RANGE_TESTS,
    ),
    mutant(
        "calls a range proven that was cut off",
        RANGE,
        "        if self._wanted is not None:\n            raise IntegrityError(\n",
        "        if False:\n            raise IntegrityError(\n",
        RANGE_TESTS,
    ),
    mutant(
        "believes the sizes of a file's parts",
        "mpisa/primitives/file_range.py",
        "if content.size != part.size:",
        "if False:",
        "tests/storage/test_reader.py",
    ),
    mutant(
        "sends one block too few of a range",
        "mpisa/primitives/file_range.py",
        "position < self._end and position + part.size > self._start",
        "position < self._end - 1 and position + part.size > self._start",
        RANGE_TESTS,
    ),
    mutant(
        "follows a symlink to an absolute path",
        WALK,
        'if symlink.target.startswith("/") or not self.above:',
        "if not self.above:",
        WALK_TESTS,
    ),
    mutant(
        "follows symlinks for ever",
        WALK,
        "if self.symlinks > MAX_SYMLINKS:",
        "if False:",
        WALK_TESTS,
    ),
    mutant(
        "packs a symlink that leads out of the tree",
        TAR,
        "if symlink_escapes(path, content.target):",
        "if False:",
        TAR_TESTS,
    ),
    mutant(
        "packs a name that leads out of the tree",
        TAR,
        "or len(climbs) > len(directory):",
        "or False:",
        TAR_TESTS,
    ),
    mutant(
        "gives strangers' files the set-user-id bit",
        "storage/export.py",
        "content.mode & 0o777 | always",
        "content.mode | always",
        "tests/storage/test_metadata.py",
    ),
    mutant(
        "takes a name's record whose older fields say something else",
        IPNS,
        "if _VALUE in blobs or _SIGNATURE_V1 in blobs:",
        "if False:",
        IPNS_TESTS,
    ),
    mutant(
        "takes a name's record that ran out",
        IPNS,
        "if record.expires_ms < now_ms:",
        "if False:",
        IPNS_TESTS,
    ),
)
