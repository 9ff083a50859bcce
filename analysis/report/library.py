"""The chart library that a page carries: Vega, Vega-Lite and Vega-Embed as one packed script."""

import base64
import binascii
import gzip
import zlib
from importlib.metadata import version

from analysis.report.page_file import pack
from rhodb.errors import InputError
from rhodb.place import for_reading
from rhodb.user_cache import cache_folder, keep


def chart_library() -> str:
    """The script, packed. Bundling takes a second, so it is kept in the user's cache folder, one file a version."""
    kept = cache_folder() / f"chart-library-{version('vl-convert-python')}.txt"
    try:
        content = for_reading(kept).read_text(encoding="ascii")
        if gzip.decompress(base64.b64decode(content, validate=True)):
            return content
    except (InputError, OSError, EOFError, UnicodeDecodeError, binascii.Error, zlib.error):
        pass  # absent, or not what was written
    content = _bundled()
    keep(kept, content)
    return content


def _bundled() -> str:
    import vl_convert

    return pack(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
