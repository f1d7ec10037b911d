"""Files of orders: plain lines of ids, CSV with ids in a column, JSONL of whole requests.

All readers stream, keep ids byte for byte, and turn a line they cannot take into a reject that has
its number and a reason, never its content. A fault of the whole file is found before anything is
handed in where that is possible, and leaves nothing half written where it is not.
"""

from producer.files.importing import ImportReport, Layout, Terms, import_file
from producer.files.layout import Format, guess_format, parse_map
from producer.files.rejects import Reject, RejectLog
from producer.files.source import Source, open_source

__all__ = [
    "Format",
    "ImportReport",
    "Layout",
    "Reject",
    "RejectLog",
    "Source",
    "Terms",
    "guess_format",
    "import_file",
    "open_source",
    "parse_map",
]
