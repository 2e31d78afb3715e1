"""Pictures of a run or of a results table, as plotly figures that also print to PDF.

Nothing here trains or reads disk, and plotly is loaded when the first figure is made. Every widget
of `dmtg_lite.views.widgets` has its static twin here.
"""

from dmtg_lite.views.plots.closings import plot_closing_costs
from dmtg_lite.views.plots.curves import plot_entropy, plot_probabilities, plot_task_losses
from dmtg_lite.views.plots.dashboard import make_dashboard, plot_dashboard, update_dashboard
from dmtg_lite.views.plots.matrix import (
    MATRICES,
    Matrix,
    compute_matrix,
    compute_temperature_views,
    plot_assignment,
    plot_history,
    plot_temperature,
)
from dmtg_lite.views.plots.pictures import CLASS_COLOURS, plot_images, plot_predictions
from dmtg_lite.views.plots.style import (
    GREY,
    GROUP_COLOURS,
    apply_style,
    group_style,
    load_plotly,
    to_label,
)
from dmtg_lite.views.plots.tables import (
    plot_affinity,
    plot_label_correlation,
    plot_norm_gain,
    plot_task_gains,
)

__all__ = [
    "CLASS_COLOURS", "GREY", "GROUP_COLOURS", "MATRICES", "Matrix", "apply_style", "compute_matrix",
    "compute_temperature_views", "group_style", "load_plotly", "make_dashboard", "plot_affinity",
    "plot_assignment",
    "plot_closing_costs", "plot_dashboard", "plot_entropy", "plot_history", "plot_images",
    "plot_label_correlation", "plot_norm_gain", "plot_predictions", "plot_probabilities",
    "plot_task_gains", "plot_task_losses", "plot_temperature", "to_label", "update_dashboard",
]  # fmt: skip
