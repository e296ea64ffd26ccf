"""On a process's path, it finds no openvino."""

import sys

sys.modules["openvino"] = None  # type: ignore[assignment]
