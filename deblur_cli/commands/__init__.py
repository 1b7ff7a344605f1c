"""Commands of the tool: each file translates options into a job, runs it, and reports."""
