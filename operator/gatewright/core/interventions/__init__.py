"""What people ask of a Release, and what comes of it.

`answer` takes an Intervention and records the answer; `questions` are what a run asks of people,
`approvals` what an approval belongs to; `commands` are Retry, Skip, Promote, Rollback, Abort, Pause
and Resume.
"""
