"""Stores that earlier versions wrote are read: copies of their files."""

from __future__ import annotations

import base64
import zlib

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


@pytest.fixture
def folder() -> ObjectFolder:
    """A store of version 1: questions 1 to 4, of which question 2 was asked twice and the third answer was erased."""
    folder = memory_folder()
    for name, packed in FILES.items():
        storage.write(folder, name, zlib.decompress(base64.b64decode(packed)))
    return folder


def test_store_of_version_1_is_read(folder: ObjectFolder) -> None:
    assert found(folder, range(6)) == {1: answer(1), 2: answer(2, 1), 4: answer(4, 1)}
    store_in(folder).compact()
    assert found(folder, range(6)) == {1: answer(1), 2: answer(2, 1), 4: answer(4, 1)}


def test_what_is_written_now_is_what_version_1_wrote(folder: ObjectFolder) -> None:
    again = memory_folder()
    name = "added-run-2-0-4479a6ce585e84f5.answers"
    store_in(again).add("run-2", [(b"\0" * 7 + b"\4" + b"\0" * 7 + b"\4", answer(4, 1))])
    assert storage.read(again, name) == storage.read(folder, name)
