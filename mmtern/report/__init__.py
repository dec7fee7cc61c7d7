"""One HTML page that shows how a training changed the weights.

Needs plotly and jinja2 (``pip install mmtern[report]``), so nothing of the
package imports it.
"""
from .page import write_report

__all__ = ['write_report']
