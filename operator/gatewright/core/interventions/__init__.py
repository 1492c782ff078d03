"""What people ask of a Release, and what comes of it.

`answer` takes an Intervention and records the answer; `questions` are what a run asks of people
(`stakes`: what they should know), `approvals` what an approval belongs to, `expiry` how long it
counts; `commands` are Retry, Skip, Promote, Rollback, Abort, Pause
and Resume.
"""
