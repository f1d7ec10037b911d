"""Files of orders: plain lines, CSV, TSV and Parquet with ids in a column, JSONL of whole requests.

All readers stream, keep ids byte for byte, and turn a line they cannot take into a reject that has
its number and a reason, never its content. A fault of the whole file is found before anything is
handed in where that is possible, and leaves nothing half written where it is not.
"""

from producer.files.checking import CheckReport, MostErrors, check_file, count_lines
from producer.files.importing import ImportReport, import_file
from producer.files.journal import Journal, Run, import_digest
from producer.files.layout import Columns, Format, Layout, format_by_suffix, guess_format, parse_map
from producer.files.orders import check_together
from producer.files.rejects import Reject, RejectLog
from producer.files.source import Source, open_source
from producer.files.terms import Terms

__all__ = [
    "CheckReport",
    "Columns",
    "Format",
    "ImportReport",
    "Journal",
    "Layout",
    "MostErrors",
    "Reject",
    "RejectLog",
    "Run",
    "Source",
    "Terms",
    "check_file",
    "check_together",
    "count_lines",
    "format_by_suffix",
    "guess_format",
    "import_digest",
    "import_file",
    "open_source",
    "parse_map",
]
