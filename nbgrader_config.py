"""nbgrader's configuration: `nbgrader autograde` and the formgrader grade through Forward Pass.

nbgrader reads this file from the folder it is started in, the course folder. To give the course
from a folder of your own, copy this file and the chapters of `source/` that you teach there:

    mkdir my-course && cp nbgrader_config.py my-course/
    cp -r --parents source/ch07_optimization my-course/

Without this file nbgrader runs students' code unconfined, and every hidden test gives 0 points.
"""

from autograder.gradebook.configuration import grade_by_engine

c = get_config()  # noqa: F821 — nbgrader provides it

c.CourseDirectory.course_id = "forwardpass"

grade_by_engine(c)

# Judge on CUDA beside the CPU, on a machine that has it:
# c.SubmissionExporter.device = "cuda"

# What a submission's code may use, in place of what each exercise says:
# c.SubmissionExporter.memory = "2GiB"

# Tell of what fails only where inputs are not on the CPU, and take no points for it:
# c.SubmissionExporter.device_points = "tell"
