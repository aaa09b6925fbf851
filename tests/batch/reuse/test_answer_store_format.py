"""Stores that earlier versions wrote are read: copies of their files."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping

import pytest
from answer_world import answer, answers, found, memory_folder, store_in

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.reuse import segment_writer
from airflow_claude_batch.batch.storage import ObjectFolder

FILES = {
    "added-run-2-0-4479a6ce585e84f5.answers": (
        "eNp1T01Lw0AQ7aEo9OgvCHMTUsjaMWl68qM9CCL0ICghlHQzhZBkt2Q3tqXk5F/zP3l1NlbBgwPLznvzZt7MEUo6wAwavRsj"
        "+GBsZlvDhGmlJMopZ9LS3jKVKbOjxkNPb7ymVZ6AbjQc/Inh4Oz14tJ8/OAbfuef3fudA0coC5X/DjI8+Y2/QiuYCR+kbpXt"
        "s3WlZbnilXgRDOLQ1aq2VgyTBLYNbYo9Ny8h9RNoyFgGk9BAmp56e2GIPqI/QRHjdYwYuqrUypJzOUJVKDKr9cESq1nLF6/r"
        "wrh1XDvwhWPBDlDrnKqe6rNvUle5852JaBpGU8TgFD4o2v1TaWhbZdLZJWnX9aQICLNIBFcU3z/ePs8XD0/zxYsYfQFqcHHB"
    ),
    "erased-4a33bc2d043de5b8252f487f7badcb1a.json": (
        "eNoVzEEKwjAQRuG7/OssMmmmmeQq4mJCplCqFhoVRLy76fbB975429HX/YFCDvpECYEp5Sw0zcIhikPX2+hgpQSHzT4d5YJG"
        "QbRalciaMrGv0rgl73WeoqWI65Cvel/7uT/JCNWW/TAU//sD8AIieg=="
    ),
    "merged-ff79b0ce940e828722d846be-0.answers": (
        "eNqNUU1r20AQtRtwIb2E3gNmbgEZNFpF0vrUkIRSCIUEAgnGJNLuCoTlVdBKdYIx9If02n/SH9RDDzmFzG4i280pI8TszHtv"
        "PnaXMFMPMIa6WowQPDBN2rSGEqYVQimpJCUbdd9QKtVmoeohDqt8WLd66MNqd7mlD96nDzo9vtGz9+nZdv9+78U6v9P7z/q9"
        "wdXTp1+yi7/Q//Hr7fRsi/OhN7j+fGD+dLjjPB5f/CX1puymzs+O8+/33r5N0A6FlusBDU38g1xRaRijB6JqNY3PPMjKSsxu"
        "aFVaMPR5ZLGynWsKJxO4q1Ve3JP4HKbeBGplGgpYZGA6fdU6IvLAQxZ4jGPMEx7iocVFpRtl+yyhLLQyN9lDo4hv2XSZ2bww"
        "diJbAejyRj7Vth6pGcwrqUoHuZMDX04OrkpphxljnEQRT/zOPNBqsUbiJAw3SK3uylQoVzSV9I4j15W+iMdpLvJM+pxxPwup"
        "14aARIh95EwgYsxkniKNsFq5qhiFMSYYiSA5Pju6PDn99v3k9Ap3nwHD67sG"
    ),
}

#: Questions 0 to 9, with an index of three blocks. There is no copy of the prefixes.
BLOCKS = {
    "added-blocks-0-05e4328ec0e59a30.answers": (
        "eNqNlM9q1EAcx7vt2rX14gsIy1y8RMjkz2Sypy1tqUJRehAKS6ybZAqh2UnJJN0ty4IP0GtPevXgyRfwYMGbr6G+gN6U6m/iJp0W"
        "AjMQZvKbz2fmG2bIHJ2wczRAeTZ9YiIDiWJclAIKoowixmIWQ7FgswJKYy6mLO+b/ey4n5e8b6LF5lzxsZ6P23xLz7fafFvPt9t8"
        "R8932nxXz3fbfKLnkzbf0/O9Np/q+bTN9/V8X/VXlq1zp19budPWD68fvIvrtyE8vZ+D2ReF6CjMsGb2Xgf7CrOqMG9qZvjXvVSY"
        "NYX5XDO/3j98JAvdJVT368u+dztt92aNTpP3xdW3xwpzT2GavL/fXn1Uv1phmrx/uh/OFKanME3ep68urtVcG7fz3b9xVpt8B5/2"
        "thVmQ2GafN9/hF/lJJx7wuPmUAWc8hl0ScbRABsoykoOR45NA4VpFp0cwf2AW+HImbSccBiPRug0Z8fJDNQDFBgjlDNRwItNBAqC"
        "pViBxDEN7BHD8l1CfMfEFHCKSVW0LdeixPMohqLvWwalhkVtyyGeTV25UJTxgsk4c5QmnImj8LxgsLBcFu5pOEmEDC63QnAv4T8I"
        "0iSLWVqVqtH/YpbGMuMAexSCULNuBuJs2jKTs9N0HMn9RsFiURWxTUMnjlzT9bb3t17u7D57vrN7iDf/AVuRYUc="
    ),
}

#: The same with a copy of the prefixes, as it is written now.
BLOCKS_AND_COPY = {
    "added-blocks-0-05e4328ec0e59a30.answers": (
        "eNqNlMtu00AUhpM2NLRseAGkaDZsBsnjy3gmq1RtVZAqUBdIlSxTEnsqWXXsyJcmVRSJB2DLCrYsWPECLKjEjtcAXgB2oMIZE7uT"
        "CAuPbI3n+PvGv52jzNG5uER9lMTTBxrCKM2GWZ5CIc09Twhf+FDMxCyD0jBKpyLpab34rJfkUU9Di5254pNmPqnz9Wa+XucbzXyj"
        "zjeb+WadbzXzrTqfNvNpnW838+06nzXzWZ3Pm/lc9VvL0V6bN1trY+vk+s4bv1wN4Ox+788+KURbYQYlc/jcPVKYDYV5UTKD39Yr"
        "hdlUmI8l8+Pt3Xuy0FlC5by1nLuraTs3e7SrvE+uvtxXmFsKU+X9+frqvfrWClPl/dV5d6EwXYWp8j589vJazbW9mu/2jbNR5Tv+"
        "cLinMNsKU+X7+m30ubXy0f/9u/3vO63ngj4KIr9qkhS65gKmII5Qn2DkxXkELUQ0jEZh7J2fQr9Bl5nyTpiPI7h2HDRJxFkwA/UY"
        "udhBiUgzWBg0Ra67FAuQmhomNsU6tyjlpkYY4IzQomjols6obTMCRc51zBjWmaGb1DaYJTfy4igTMs4chUEk0tPRZSZgY7kt9P1o"
        "HKQyuHwUgj6H/1WQxrEvwqJUXP0txqEvM/aJzSAI08qBUSSmNXcSMQmHnnye4y5kmEkgF/Py7fsO0ZiG5cG4ZZqcc3exKGRCNcM3"
        "fIvrdO9o9+n+waPH+wcnZOcPpZ9spQ=="
    ),
}


def folder_of(files: Mapping[str, str]) -> ObjectFolder:
    folder = memory_folder()
    for name, packed in files.items():
        storage.write(folder, name, zlib.decompress(base64.b64decode(packed)))
    return folder


@pytest.fixture
def folder() -> ObjectFolder:
    """A store of version 1 with four questions: the second was asked twice, and the answer to the third was erased."""
    return folder_of(FILES)


@pytest.mark.parametrize("files", [BLOCKS, BLOCKS_AND_COPY], ids=["without a copy", "with a copy"])
def test_segment_of_several_blocks_is_read(files: Mapping[str, str]) -> None:
    folder = folder_of(files)
    for numbers in (range(12), [9], [0, 4]):
        assert found(folder, numbers) == {number: answer(number) for number in numbers if number < 10}
    store_in(folder).compact()
    assert found(folder, range(12)) == {number: answer(number) for number in range(10)}


def test_store_of_version_1_is_read(folder: ObjectFolder) -> None:
    assert found(folder, range(6)) == {1: answer(1), 2: answer(2, 1), 4: answer(4, 1)}
    store_in(folder).compact()
    assert found(folder, range(6)) == {1: answer(1), 2: answer(2, 1), 4: answer(4, 1)}


def test_what_is_written_now_is_what_is_stored_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_writer, "BLOCK_ROWS", 4)
    folder, (name,) = memory_folder(), BLOCKS_AND_COPY
    store_in(folder).add("blocks", answers(range(10)))
    assert storage.read(folder, name) == storage.read(folder_of(BLOCKS_AND_COPY), name)


def test_segment_that_has_a_copy_is_one_of_version_1_too() -> None:
    """An earlier version reads it: only bytes that it does not look for are new."""
    (name,) = BLOCKS
    before, now = (storage.read(folder_of(files), name) or b"" for files in (BLOCKS, BLOCKS_AND_COPY))
    kind = b'{"kind":"answers","version":1,'
    assert now.startswith(before[: before.index(kind)])
    assert now.index(kind) == before.index(kind) + 8 * 10
