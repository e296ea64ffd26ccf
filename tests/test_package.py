"""The package's own face."""

import subprocess
import sys


def test_the_function_extract_keeps_its_name_whatever_of_the_subpackage_is_imported():
    program = (
        "import mmfeat; from mmfeat.extract.registry import methods; import mmfeat.extract.base;"
        "from mmfeat.extract import options; from mmfeat import extract;"
        "assert callable(mmfeat.extract) and extract is mmfeat.extract, mmfeat.extract"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_public_name_is_there():
    import mmfeat

    assert all(hasattr(mmfeat, name) for name in mmfeat.__all__)
