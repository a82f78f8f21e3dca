"""What adapters are to one another, before anyone merges them."""

from prefdelta.inspection.measure import inspect_adapters
from prefdelta.inspection.page import write_inspection_page
from prefdelta.inspection.results import Inspection
from prefdelta.inspection.table import print_inspection

__all__ = ["Inspection", "inspect_adapters", "print_inspection", "write_inspection_page"]
