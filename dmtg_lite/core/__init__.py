"""The method of the paper, to be read in one sitting: section 3 from the draw to the step.

Read in this order: `assignment`, `network` with `heads`, `objective`, `step`.
"""
