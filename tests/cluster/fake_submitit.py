"""In place of submitit's SLURM: notes what is submitted and runs nothing."""

from typing import ClassVar

import submitit


class Executor(submitit.LocalExecutor):
    parameters: ClassVar[dict] = {}
    submitted: ClassVar[list] = []

    def update_parameters(self, **parameters):
        Executor.parameters = parameters

    def _internal_process_submissions(self, delayed_submissions):
        Executor.submitted = delayed_submissions
        return [submitit.LocalJob(folder=self.folder, job_id=str(i)) for i, _ in enumerate(delayed_submissions)]
