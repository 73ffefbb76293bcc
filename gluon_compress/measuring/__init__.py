"""Before and after: parameters, bytes, MACs, times, kernels, accuracy; tables, plots, a page for the browser."""
from ..network.latency import Timing, measure_latency
from . import plots
from .kernels import Kernel, KernelReport, kernels_of, measure_islands, operator_times
from .reporting import report
from .reports import Report

__all__ = ["Kernel", "KernelReport", "Timing", "Report", "kernels_of", "measure_islands", "measure_latency",
           "operator_times", "plots", "report"]
