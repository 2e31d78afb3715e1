"""The paper's tables beside ours: `specs` say what a table is made of, `runs` which runs it needs,
`measure` what they say, `page` what it looks like."""

from dmtg_lite.studies.paper.page import render_text, write_reproduction
from dmtg_lite.studies.paper.reproduction import Reproduction, reproduce_table
from dmtg_lite.studies.paper.runs import Setting
from dmtg_lite.studies.paper.specs import SPECS

__all__ = [
    "SPECS", "Reproduction", "Setting", "render_text", "reproduce_table", "write_reproduction",
]  # fmt: skip
