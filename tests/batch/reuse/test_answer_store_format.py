"""Stores that earlier versions wrote are read: copies of their files."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping

import pytest
from answer_world import answer, found, memory_folder, store_in

from airflow_claude_batch.batch import storage
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

#: Questions 0 to 9, with an index of three blocks.
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


def folder_of(files: Mapping[str, str]) -> ObjectFolder:
    folder = memory_folder()
    for name, packed in files.items():
        storage.write(folder, name, zlib.decompress(base64.b64decode(packed)))
    return folder


@pytest.fixture
def folder() -> ObjectFolder:
    """A store of version 1: questions 1 to 4, of which question 2 was asked twice and the third answer was erased."""
    return folder_of(FILES)


def test_segment_of_several_blocks_is_read() -> None:
    folder = folder_of(BLOCKS)
    for numbers in (range(12), [9], [0, 4]):
        assert found(folder, numbers) == {number: answer(number) for number in numbers if number < 10}
    store_in(folder).compact()
    assert found(folder, range(12)) == {number: answer(number) for number in range(10)}


def test_store_of_version_1_is_read(folder: ObjectFolder) -> None:
    assert found(folder, range(6)) == {1: answer(1), 2: answer(2, 1), 4: answer(4, 1)}
    store_in(folder).compact()
    assert found(folder, range(6)) == {1: answer(1), 2: answer(2, 1), 4: answer(4, 1)}


def test_what_is_written_now_is_what_version_1_wrote(folder: ObjectFolder) -> None:
    again = memory_folder()
    name = "added-run-2-0-4479a6ce585e84f5.answers"
    store_in(again).add("run-2", [(b"\0" * 7 + b"\4" + b"\0" * 7 + b"\4", answer(4, 1))])
    assert storage.read(again, name) == storage.read(folder, name)
